"""What a gateway shows of its cluster: state, why and where requests went, what engines run on, everybody's metrics.

Nothing here serves a client's request.
"""

import asyncio
import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import msgspec
from aiohttp import web

from chiasm.gateway.asking import ask_reasons, ask_status
from chiasm.gateway.errors import ApiError, invalid
from chiasm.gateway.link import SchedulerLink
from chiasm.gateway.parsing import ServingFacts
from chiasm.gateway.upstream import Upstream
from chiasm.gateway.views.machines import gather_machines, measured_peaks
from chiasm.gateway.views.profiling import Profiling
from chiasm.gateway.views.scraping import WorkerPages, targets
from chiasm.nouns import RequestId, WorkerId
from chiasm.telemetry.metrics import GatewayMetrics
from chiasm.telemetry.scheduler_metrics import scheduler_page
from chiasm.telemetry.timelines.collected import to_json

TURN_TIMEOUT_S = 20.0
"""Longer than the engines have for their answers to the one before."""


class Views:
    """The handlers. To be opened before the first request."""

    def __init__(self, facts: ServingFacts, link: SchedulerLink, metrics: GatewayMetrics) -> None:
        self._facts = facts
        self._link = link
        self._metrics = metrics
        self._tracing = asyncio.Lock()
        self._upstream: Upstream
        self._profiling: Profiling
        self._pages: WorkerPages

    def open(self, upstream: Upstream, profiling: Profiling) -> None:
        """What lives as long as the gateway runs."""
        self._upstream, self._profiling = upstream, profiling
        self._pages = WorkerPages(self._link, upstream)

    def routes(self) -> list[web.RouteDef]:
        """Where they are."""
        return [
            web.get("/v1/chiasm/status", self.status),
            web.get("/v1/chiasm/requests/{request}", self.timeline),
            web.get("/v1/chiasm/requests/{request}/reasons", self.reasons),
            web.get("/v1/chiasm/trace", self.trace),
            web.get("/v1/chiasm/machines", self.machines),
            web.post("/v1/chiasm/machines/{worker}/peaks", self.peaks),
            web.get("/metrics", self.exposition),
            web.get("/metrics/targets", self.targets),
            web.get("/metrics/scheduler", self.scheduler_exposition),
            web.get("/metrics/workers/{worker}", self.worker_exposition),
        ]

    async def status(self, _request: web.Request) -> web.Response:
        """The scheduler's state."""
        status = msgspec.structs.asdict(await ask_status(self._link))
        del status["request"]
        for name in ("workers", "thieves"):
            status[name] = [msgspec.structs.asdict(one) for one in status[name]]
        return json_response(status)

    async def timeline(self, request: web.Request) -> web.Response:
        """Where one request's time went."""
        return json_response(await self._profiling.timeline(RequestId(request.match_info["request"])))

    async def reasons(self, request: web.Request) -> web.Response:
        """Why one request was treated as it was."""
        about = RequestId(request.match_info["request"])
        answer = await ask_reasons(self._link, about)
        if not answer.reasons:
            message = f"Nothing is known of a request {about}. The latest scheduler.explained_requests are remembered."
            raise ApiError(404, message, code="unknown_request")
        reasons = [msgspec.structs.asdict(reason) for reason in answer.reasons]
        return json_response({"request": about, "reasons": reasons})

    async def machines(self, _request: web.Request) -> web.Response:
        """What engines run on."""
        workers = (await ask_status(self._link)).workers
        return json_response(await gather_machines(workers, self._facts.image_sizes, self._upstream))

    async def peaks(self, request: web.Request) -> web.Response:
        """What one engine's machine can do at most, measured if nobody has."""
        workers = (await ask_status(self._link)).workers
        name = WorkerId(request.match_info["worker"])
        content = await measured_peaks(workers, name, self._upstream)
        return web.Response(body=content, content_type="application/json")

    async def trace(self, request: web.Request) -> web.Response:
        """All that engines and this gateway remember since then: so much that one is made at a time."""
        since = _moment(request)
        async with self._turn():
            workers = (await ask_status(self._link)).workers
            found = await self._profiling.records(workers, since)
            content = await asyncio.to_thread(to_json, found)
        return web.Response(body=content, content_type="application/json")

    @asynccontextmanager
    async def _turn(self) -> AsyncIterator[None]:
        try:
            async with asyncio.timeout(TURN_TIMEOUT_S):
                await self._tracing.acquire()
        except TimeoutError as error:
            message = f"Other recordings have been fetched for {TURN_TIMEOUT_S:g} s. Try again later."
            busy = {"Retry-After": str(math.ceil(TURN_TIMEOUT_S))}
            raise ApiError(503, message, kind="server_error", code="busy", headers=busy) from error
        try:
            yield
        finally:
            self._tracing.release()

    async def exposition(self, _request: web.Request) -> web.Response:
        """This gateway's metrics."""
        return web.Response(body=self._metrics.exposition(), headers={"Content-Type": self._metrics.content_type})

    async def targets(self, request: web.Request) -> web.Response:
        """Whom Prometheus is to scrape."""
        return json_response(targets(await ask_status(self._link), request.host))

    async def scheduler_exposition(self, _request: web.Request) -> web.Response:
        """The scheduler's metrics."""
        page = scheduler_page(await ask_status(self._link))
        return web.Response(body=page, headers={"Content-Type": self._metrics.content_type})

    async def worker_exposition(self, request: web.Request) -> web.Response:
        """An engine's metrics."""
        page = await self._pages.page(WorkerId(request.match_info["worker"]))
        return web.Response(body=page.content, headers={"Content-Type": page.content_type})


def json_response(content: Any) -> web.Response:
    """`content` as JSON."""
    return web.Response(body=msgspec.json.encode(content), content_type="application/json")


def _moment(request: web.Request) -> float:
    try:
        since = float(request.query["since"])
    except (KeyError, ValueError):
        since = math.nan
    if not math.isfinite(since):
        raise invalid("Say `since` when: ?since= and unix seconds.", "since")
    return since
