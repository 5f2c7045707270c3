"""What Prometheus asks a gateway for on behalf of the whole cluster: whom to scrape, and the pages of engines, which
answer only with the cluster's token. Owns no connection.
"""

import time
from typing import TypedDict

from chiasm.gateway.asking import ask_status
from chiasm.gateway.errors import ApiError
from chiasm.gateway.link import SchedulerLink
from chiasm.gateway.upstream import EngineFailed, Page, Upstream
from chiasm.messages import Status
from chiasm.nouns import WorkerId

MAX_PAGE_BYTES = 16 << 20

PAGE_TIMEOUT_S = 8.0
"""Less than the ten seconds that Prometheus waits unless told otherwise: then it is told what was the matter."""

SCHEDULER_TIMEOUT_S = 2.0
"""Of these, at most so many are for the scheduler to say where the engine is."""


class TargetGroup(TypedDict):
    """One entry of Prometheus' HTTP service discovery."""

    targets: list[str]
    labels: dict[str, str]


def targets(status: Status, host: str) -> list[TargetGroup]:
    """Everybody who has metrics, each by a path at `host`, where the gateway was asked: only that can be reached."""
    return [
        _target(host, "", "gateway", "gateway"),
        _target(host, "/scheduler", "scheduler", "scheduler"),
        *(_target(host, f"/workers/{one.worker}", one.role, one.worker) for one in status.workers),
    ]


def _target(host: str, page: str, pool: str, worker: str) -> TargetGroup:
    return {"targets": [host], "labels": {"__metrics_path__": f"/metrics{page}", "pool": pool, "worker": worker}}


class WorkerPages:
    """The metrics of engines, which are where the scheduler says, or where it said last if it says nothing."""

    def __init__(self, link: SchedulerLink, upstream: Upstream) -> None:
        self._link = link
        self._upstream = upstream
        self._urls: dict[WorkerId, str] = {}

    async def page(self, worker: WorkerId) -> Page:
        """The metrics of one engine, within `PAGE_TIMEOUT_S` seconds.

        Raises:
            ApiError: 404, no such worker is registered; 502 or 504, its engine gave no page; 503, the scheduler is
                silent, and never told of this worker.
        """
        began = time.monotonic()
        url = await self._url(worker)
        left_s = PAGE_TIMEOUT_S - (time.monotonic() - began)
        try:
            return await self._upstream.page(url, "/metrics", MAX_PAGE_BYTES, left_s)
        except TimeoutError as error:
            message = f"The engine of {worker} did not answer within {left_s:.0f} s. Its worker's log says more."
            raise ApiError(504, message, kind="timeout_error", code="engine_timeout") from error
        except EngineFailed as error:
            message = f"The engine of {worker} gave no page: {error.reason}. Its worker's log says more."
            raise ApiError(502, message, kind="server_error", code="engine_failed") from error

    async def _url(self, worker: WorkerId) -> str:
        try:
            status = await ask_status(self._link, SCHEDULER_TIMEOUT_S)
        except ApiError:
            if worker not in self._urls:
                raise
        else:
            self._urls = {one.worker: one.url for one in status.workers}
        if worker not in self._urls:
            message = f"No worker {worker} is registered. GET /metrics/targets has those that are."
            raise ApiError(404, message, code="unknown_worker")
        return self._urls[worker]
