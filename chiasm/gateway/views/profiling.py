"""The course of a gateway's requests, told to whoever asks: timelines of the latest, traces of those that are traced.

Nothing is asked of engines before somebody wants to know.
"""

import asyncio
import logging
import time
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING

from chiasm.api_paths import CHAT_PATH
from chiasm.config import TelemetryConfig
from chiasm.gateway.appendix import Appendix
from chiasm.gateway.errors import ApiError
from chiasm.gateway.link import SchedulerLink
from chiasm.gateway.parsing import ParsedRequest
from chiasm.gateway.upstream import Upstream
from chiasm.gateway.views.collecting import cluster_records, collect
from chiasm.gateway.views.timelines import Timelines
from chiasm.messages import Reason, WorkerStatus
from chiasm.nouns import RequestId, WorkerId
from chiasm.telemetry.marks import Marks
from chiasm.telemetry.timelines.collected import ClusterRecords, WorkerRecords
from chiasm.telemetry.timelines.timeline import Timeline, assemble

if TYPE_CHECKING:
    from chiasm.telemetry.tracing import RequestTrace, Tracing

logger = logging.getLogger(__name__)

ASKING_TIMEOUT_S = 2.0
"""For all that is asked: a trace, or a client, can do without what is not there by then."""

LATE_S = 0.05
"""An engine's server may answer a call before it has noted it; that engine is asked once more, so long after."""

TRACES_FINISHING = 256
"""Traced requests whose engines are being asked; of one beyond, only what the gateway saw is told."""


class Profiling:
    """To be closed."""

    def __init__(self, config: TelemetryConfig, model: str, link: SchedulerLink, upstream: Upstream) -> None:
        self.timelines = Timelines(config.timelines)
        self._engines_remember = config.timelines > 0
        self._model = model
        self._link = link
        self._upstream = upstream
        self._tracing = _tracing(config, model)
        self._finishing: set[asyncio.Task[None]] = set()

    async def close(self) -> None:
        """Finish the traces that are under way."""
        if self._finishing:
            await asyncio.wait(self._finishing)
        if self._tracing is not None:
            await self._tracing.close()

    def begin(self, parsed: ParsedRequest, headers: Mapping[str, str], marks: Marks) -> "RequestTrace | None":
        """The trace of a request that has been read; None where nobody takes traces."""
        if self._tracing is None:
            return None
        operation = "chat" if parsed.path == CHAT_PATH else "text_completion"
        return self._tracing.begin(operation, headers, marks, parsed.output_tokens)

    def appendix(self, parsed: ParsedRequest, marks: Marks) -> Appendix:
        """What a response says of its own course."""
        return Appendix(lambda: self._timeline(marks), parsed.path, marks.request, self._model)

    def ended(self, marks: Marks, trace: "RequestTrace | None") -> None:
        """A request has ended; what is still to be done about that does not keep its client waiting."""
        self.timelines.ended(marks.request)
        if trace is None or not trace.sampled:
            return
        asks = len(self._finishing) < TRACES_FINISHING
        task = asyncio.create_task(self._finish(marks, trace, asks))
        self._finishing.add(task)
        task.add_done_callback(self._finishing.discard)

    async def timeline(self, request: RequestId) -> Timeline:
        """Where the time of one request went, or goes.

        Raises:
            ApiError: 404, it is unknown here.
        """
        marks = self.timelines.get(request)
        if marks is None:
            message = f"Nothing is known of a request {request}. The latest telemetry.timelines are remembered."
            raise ApiError(404, message, code="unknown_request")
        return await self._timeline(marks)

    async def records(self, workers: Collection[WorkerStatus], since: float) -> ClusterRecords:
        """All that these workers and this gateway remember of what ended at `since` (unix seconds) or later."""
        timelines = self.timelines
        return await cluster_records(self._upstream, workers, timelines.all(), timelines.whole_since, since)

    async def _timeline(self, marks: Marks) -> Timeline:
        """With what its engines remember, as far as they say so in time."""
        heard = await self._ask(marks) if self._engines_remember else {}
        records = {name: one.records for name, one in heard.items() if one.records is not None}
        clocks = {name: one.clock for name, one in heard.items() if one.clock is not None}
        return assemble(marks, time.time(), records, clocks)

    async def _ask(self, marks: Marks) -> dict[WorkerId, WorkerRecords]:
        clock = asyncio.get_running_loop().time
        deadline = clock() + ASKING_TIMEOUT_S
        involved = {encode.worker for encode in marks.encodes} | {decode.worker for decode in marks.decodes}
        try:
            status = await self._link.ask_status(ASKING_TIMEOUT_S)
        except TimeoutError:
            return {}
        asked = [worker for worker in status.workers if worker.worker in involved]
        left = max(LATE_S, deadline - clock())
        heard = {one.worker: one for one in await self._collect(asked, marks, left)}
        late = [worker for worker in asked if (told := heard[worker.worker].records) is not None and not told.calls]
        if late and (left := deadline - clock() - LATE_S) > 0:
            await asyncio.sleep(LATE_S)
            heard |= {one.worker: one for one in await self._collect(late, marks, left) if one.records is not None}
        return heard

    async def _collect(
        self, workers: Collection[WorkerStatus], marks: Marks, timeout_s: float
    ) -> tuple[WorkerRecords, ...]:
        question = {"call": marks.request, "key": sorted({key for decode in marks.decodes for key in decode.keys})}
        return await collect(self._upstream, workers, question, timeout_s)

    async def _finish(self, marks: Marks, trace: "RequestTrace", asks: bool) -> None:
        try:
            if asks:
                trace.finish(*await asyncio.gather(self._timeline(marks), self._reasons(marks.request)))
            else:
                trace.finish(assemble(marks, time.time(), {}, {}), ())
        except Exception:
            logger.exception("the trace of request %s could not be finished", marks.request)

    async def _reasons(self, request: RequestId) -> Sequence[tuple[float, Reason]]:
        """With when each was noted: the scheduler tells how long ago that was."""
        try:
            answer = await self._link.ask_reasons(request, ASKING_TIMEOUT_S)
        except TimeoutError:
            return ()
        now = time.time()
        return [(now - (answer.now_s - reason.at_s), reason) for reason in answer.reasons]


def _tracing(config: TelemetryConfig, model: str) -> "Tracing | None":
    if config.otlp_endpoint is None:
        return None
    # A second of imports, which only those who trace need.
    from chiasm.telemetry.tracing import Tracing, otlp_exporter

    return Tracing(otlp_exporter(config.otlp_endpoint), config.trace_part, config.trust_traceparent, model)
