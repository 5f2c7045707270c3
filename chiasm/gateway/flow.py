"""One validated request from its submission to its single end: follows the scheduler's decisions, calls the engines
that they name, and reports what came of it. Owns the calls; routes are in `app`, bytes in `bodies` and `sse`.
"""

import asyncio
import logging
import math
import time
from collections.abc import Coroutine
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from aiohttp import web

from chiasm.gateway.answering import Answering
from chiasm.gateway.delivery import ClientLeft, Delivery
from chiasm.gateway.encoding import Encoding
from chiasm.gateway.errors import (
    ApiError,
    deadline_exceeded,
    decode_failed,
    internal_error,
    prompt_too_long,
    rejected,
)
from chiasm.gateway.link import Decisions, SchedulerLink
from chiasm.gateway.parsing import ParsedRequest
from chiasm.gateway.upstream import EngineFailed, Upstream
from chiasm.gateway.views.timelines import Timelines
from chiasm.messages import (
    Cancel,
    Decode,
    DecodeBegun,
    DecodeDone,
    DecodeFailed,
    Encode,
    Forgotten,
    Reject,
    Return,
    Returned,
    Submit,
)
from chiasm.nouns import RequestId
from chiasm.telemetry.marks import Marks
from chiasm.telemetry.metrics import GatewayMetrics

if TYPE_CHECKING:
    from chiasm.telemetry.tracing import RequestTrace

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Tenant:
    """Whoever sent an API key; all are one where none is asked for. `weight` is its share while others wait too."""

    name: str
    weight: float


@dataclass(frozen=True)
class Services:
    """What every flow of one gateway shares."""

    link: SchedulerLink
    upstream: Upstream
    metrics: GatewayMetrics
    timelines: Timelines


class Flow:
    """One request under way.

    Everything runs in tasks of this object, and whichever comes to an end first settles `_end`: that is what makes the
    end a single one. `run` then cancels the others, which aborts their calls in the engines.
    """

    def __init__(
        self,
        request: RequestId,
        parsed: ParsedRequest,
        tenant: Tenant,
        services: Services,
        delivery: Delivery,
        marks: Marks,
        trace: "RequestTrace | None",
    ) -> None:
        self._request = request
        self._parsed = parsed
        self._tenant = tenant
        self._link = services.link
        self._upstream = services.upstream
        self._metrics = services.metrics
        self._timelines = services.timelines
        self._delivery = delivery
        self._marks = marks
        self._trace = trace
        self._encoding = Encoding(
            request, parsed, services.link, services.upstream, services.metrics, marks, trace, self._start
        )
        self._answering = Answering(request, parsed, services.upstream, delivery, self._decode_begun, marks.last_token)
        self._end: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._deadline = math.inf
        self._scheduler_knows = False  # that the request has ended
        self._forgotten = False  # by the scheduler, and not submitted again
        self._tasks: set[asyncio.Task[None]] = set()
        self._decode: Decode | None = None  # the latest
        self._decoding: asyncio.Task[None] | None = None
        self._decoding_since = time.monotonic()

    async def run(self, deadline: float) -> web.StreamResponse:
        """The client's response, by `deadline` (of the event loop's clock).

        Raises:
            ApiError: the request ended with this error, and nothing was delivered.
            ClientLeft: nobody waits for the answer any more.
        """
        self._deadline = deadline
        try:
            async with asyncio.timeout_at(deadline):
                with self._link.open(self._request) as decisions:
                    self._marks.submitted(self._parsed.items, self._parsed.stream)
                    self._timelines.add(self._marks)
                    self._submit()
                    self._start(self._follow(decisions))
                    await self._end
                    await self._stop()  # a decision that crosses our last word must not begin anything
                    return await self._delivery.finish()
        except TimeoutError:
            error = deadline_exceeded("The request took longer than this server allows")
        except ApiError as ended:
            error = ended
        finally:
            if not self._scheduler_knows:
                self._link.send(self._last_word())
            await self._stop()
        return await self._delivery.fail(error)

    def _last_word(self) -> DecodeDone | Cancel:
        """For the scheduler, of a request that has ended here: a client may leave as soon as it has the last token."""
        tokens = self._answering.ended
        if self._decode is None or tokens is None:
            return Cancel(self._request)
        return self._done(self._decode, tokens)

    def _submit(self) -> None:
        """For the first time, or what is left of it to a scheduler that has forgotten it."""
        parsed, done = self._parsed, self._answering.standing
        left = max(0.0, self._deadline - asyncio.get_running_loop().time())
        sizes = (parsed.text_tokens + done, parsed.output_tokens - done)
        tenant = (self._tenant.name, self._tenant.weight)
        stealable = parsed.may_move and self._decode is None
        self._forgotten = False
        self._link.send(
            Submit(self._request, parsed.items, *sizes, left, *tenant, streams=parsed.stream, stealable=stealable)
        )

    async def _follow(self, decisions: Decisions) -> None:
        while True:
            match await decisions.get():
                case Encode() as encode:
                    self._encoding.begin(encode)
                case Decode() as decode:
                    await self._begin(decode)
                case Return() as asked:
                    await self._give_back(asked)
                case Reject() as reject:
                    self._scheduler_knows = True
                    self.fail(rejected(reject))
                case Forgotten():
                    await self._begin_again()

    async def _begin_again(self) -> None:
        """The scheduler has forgotten the request. What generates goes on without it; all else it has to place anew."""
        await self._encoding.give_up("the scheduler has forgotten it")
        if self._end.done():
            return
        self._forgotten = True
        if self._decoding is None or self._decoding.done():
            self._submit()

    async def _begin(self, decode: Decode) -> None:
        """Begin an attempt; the scheduler has given the one before up, even if its engine has not failed us yet."""
        await self._stop_decoding()
        self._decode = decode
        self._answering.begin()
        self._marks.decode_posted(decode.worker, decode.role, decode.embeddings)
        if self._answering.obstacle is not None:
            self._decode_failed(decode, EngineFailed("the engine before was lost in mid-answer", retryable=False))
            return
        self._decoding_since = time.monotonic()
        self._decoding = self._start(self._attempt(decode))

    async def _give_back(self, asked: Return) -> None:
        """Stop at a thief. If what it generates has ended in this moment, or before, that has been reported."""
        decode, decoding = self._decode, self._decoding
        if decode is None or decoding is None or decode.worker != asked.worker:
            return
        await self._stop_decoding()
        if decoding.cancelled():
            await self._broken_off(decode, None)

    async def _stop_decoding(self) -> None:
        decoding, self._decoding = self._decoding, None
        if decoding is not None:
            decoding.cancel()
            await asyncio.wait([decoding])
            self._delivery.resume()

    async def _attempt(self, decode: Decode) -> None:
        covered = {embedding.uuid for embedding in decode.embeddings}
        wanted = {part.uuid for part in self._parsed.media}
        if covered and covered != wanted:
            reason = "the decision's embeddings are not those of the request"
            self._decode_failed(decode, EngineFailed(reason, retryable=False))
            return
        sizes = {embedding.uuid: embedding.shape[0] for embedding in decode.embeddings}
        image_tokens = sum(sizes[part.uuid] for part in self._parsed.media) if sizes else 0
        if image_tokens >= self._parsed.max_model_len:
            # Known for certain only now; `run` tells the scheduler that nothing more is wanted.
            self.fail(prompt_too_long(f"The request's images have {image_tokens} tokens", self._parsed.max_model_len))
            return
        try:
            headers = self._trace.decode_headers(self._marks.decodes[-1]) if self._trace is not None else {}
            tokens = await self._answering.attempt(decode, headers)
        except EngineFailed as failure:
            await self._broken_off(decode, failure)
        except ClientLeft as left:
            self.fail(left)
        else:
            self._decode_done(decode, tokens)

    async def _broken_off(self, decode: Decode, failure: EngineFailed | None) -> None:
        """An attempt has come to an early end: by `failure`, or because its worker was asked to give it back."""
        try:
            tokens = await self._answering.complete()
        except ClientLeft as left:
            self.fail(left)
            return
        if tokens is not None:
            self._decode_done(decode, tokens)
        elif failure is not None:
            self._decode_failed(decode, failure)
        elif (obstacle := self._answering.obstacle) is not None:
            reason = f"its worker had to give it back, and no other can go on: {obstacle}"
            self._decode_failed(decode, EngineFailed(reason, retryable=False))
        else:
            self._marks.decode_returned(self._answering.generated)
            self._link.send(Returned(self._request, decode.worker, self._answering.generated))

    def _decode_begun(self, decode: Decode) -> None:
        self._marks.first_token()
        if self._parsed.items:
            seconds = time.monotonic() - self._decoding_since
            self._link.send(DecodeBegun(self._request, decode.worker, seconds))

    def _decode_done(self, decode: Decode, tokens: int) -> None:
        self._scheduler_knows = True
        self._link.send(self._done(decode, tokens))
        if not self._end.done():
            self._end.set_result(None)

    def _done(self, decode: Decode, tokens: int) -> DecodeDone:
        """The seconds are the engine's: how long its client took to read the rest says nothing of it."""
        self._marks.decode_answered(tokens)
        ended = self._answering.ended_at or time.monotonic()
        return DecodeDone(self._request, decode.worker, tokens, ended - self._decoding_since)

    def _decode_failed(self, decode: Decode, failure: EngineFailed) -> None:
        retryable = failure.retryable and self._answering.obstacle is None
        self._marks.decode_failed(failure.reason, self._answering.generated)
        if retryable:
            self._metrics.retries.labels("decode").inc()
            if self._forgotten:
                self._submit()
                return
        lost = tuple(embedding.uuid for embedding in decode.embeddings if embedding.key in failure.lost)
        self._link.send(
            DecodeFailed(self._request, decode.worker, failure.reason, retryable, lost, failure.unreachable)
        )
        if not retryable and (self._forgotten or self._delivery.response is not None):
            # Otherwise the scheduler has the word: another attempt, or a rejection with this reason.
            self._scheduler_knows = True
            self.fail(decode_failed(failure.reason))

    def fail(self, error: BaseException) -> None:
        """End with `error`, unless it has ended."""
        if not self._end.done():
            self._end.set_exception(error)

    def _start(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._finished)
        return task

    def _finished(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            logger.error("request %s failed inside the gateway", self._request, exc_info=error)
            self.fail(internal_error())

    async def _stop(self) -> None:
        tasks = tuple(self._tasks)
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
