"""The items of one request at the encoders that the scheduler names. Each attempt is a call and a report of its own."""

import asyncio
import time
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any

from chiasm.gateway.link import SchedulerLink
from chiasm.gateway.parsing import ParsedRequest
from chiasm.gateway.upstream import EngineFailed, Upstream
from chiasm.messages import Encode, EncodeDone, EncodeFailed
from chiasm.nouns import RequestId
from chiasm.telemetry.marks import Marks, encoder_call
from chiasm.telemetry.metrics import GatewayMetrics
from chiasm.wire.protocol import tensor_nbytes

if TYPE_CHECKING:
    from chiasm.telemetry.tracing import RequestTrace


class Encoding:
    """`start` makes a task of an attempt, for whoever ends them all with the request."""

    def __init__(
        self,
        request: RequestId,
        parsed: ParsedRequest,
        link: SchedulerLink,
        upstream: Upstream,
        metrics: GatewayMetrics,
        marks: Marks,
        trace: "RequestTrace | None",
        start: Callable[[Coroutine[Any, Any, None]], asyncio.Task[None]],
    ) -> None:
        self._request = request
        self._parsed = parsed
        self._link = link
        self._upstream = upstream
        self._metrics = metrics
        self._marks = marks
        self._trace = trace
        self._start = start
        self._running: set[asyncio.Task[None]] = set()

    def begin(self, encode: Encode) -> None:
        """Carry out a decision."""
        task = self._start(self._encode(encode))
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    async def give_up(self, why: str) -> None:
        """End all attempts, without a report."""
        if self._running:
            for task in self._running:
                task.cancel()
            await asyncio.wait(self._running)
        for attempt in self._marks.encodes:
            if attempt.ended_at is None:
                self._marks.encode_failed(attempt, why)

    async def _encode(self, encode: Encode) -> None:
        part = next((part for part in self._parsed.media if part.uuid == encode.uuid), None)
        if part is None:
            reason = "the request has no such item"
            self._link.send(EncodeFailed(self._request, encode.worker, encode.uuid, reason, retryable=False))
            return
        attempt, began = self._marks.encode_posted(part.uuid, encode.worker), time.monotonic()
        call = encoder_call(self._request, attempt.item)
        headers = self._trace.encode_headers(attempt) if self._trace is not None else {}
        try:
            embedding = await self._upstream.encode(encode.url, call, self._parsed, part, headers)
        except EngineFailed as failure:
            self._marks.encode_failed(attempt, failure.reason)
            if failure.retryable:
                self._metrics.retries.labels("encode").inc()
            failed = (failure.reason, failure.retryable, failure.unreachable)
            self._link.send(EncodeFailed(self._request, encode.worker, encode.uuid, *failed))
        else:
            seconds = time.monotonic() - began
            nbytes = tensor_nbytes(embedding.shape, embedding.dtype)
            self._marks.encode_answered(attempt, embedding.shape[0], nbytes)
            self._link.send(EncodeDone(self._request, encode.worker, embedding, seconds, nbytes))
