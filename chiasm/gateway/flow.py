"""One validated request from its submission to its single end: follows the scheduler's decisions, calls the engines
that they name, and reports what came of it. Owns the calls; routes are in `app`, bytes in `bodies` and `sse`.
"""

import asyncio
import logging
import time
from collections.abc import Coroutine
from dataclasses import dataclass
from typing import Any

from aiohttp import ClientResponse, web

from chiasm.gateway.bodies import completion_tokens, decode_body, error_message
from chiasm.gateway.delivery import ClientLeft, Delivery
from chiasm.gateway.errors import (
    ApiError,
    deadline_exceeded,
    decode_failed,
    internal_error,
    prompt_too_long,
    rejected,
)
from chiasm.gateway.link import SchedulerLink
from chiasm.gateway.parsing import ParsedRequest
from chiasm.gateway.sse import EventTooLong, Tally, named_errors, whole_events
from chiasm.gateway.timing import Timing
from chiasm.gateway.upstream import MAX_ANSWER_BYTES, MISCONFIGURED, EngineFailed, Upstream, read_limited
from chiasm.messages import (
    Cancel,
    Decode,
    DecodeDone,
    DecodeFailed,
    Encode,
    EncodeDone,
    EncodeFailed,
    Reject,
    Submit,
    ToGateway,
)
from chiasm.nouns import RequestId
from chiasm.telemetry.metrics import GatewayMetrics
from chiasm.wire.protocol import tensor_nbytes

logger = logging.getLogger(__name__)

MAX_WITHHELD_BYTES = 1 << 20
"""A stream that opens with more than this before its first token is delivered all the same."""

_FORWARDED = frozenset(range(400, 500)) - {408, 429, *MISCONFIGURED}


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
        timing: Timing,
    ) -> None:
        self._request = request
        self._parsed = parsed
        self._tenant = tenant
        self._link = services.link
        self._upstream = services.upstream
        self._metrics = services.metrics
        self._delivery = delivery
        self._timing = timing
        self._end: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._scheduler_knows = False  # that the request has ended
        self._tasks: set[asyncio.Task[None]] = set()
        self._decoding: asyncio.Task[None] | None = None
        self._waiting_since = time.monotonic()  # for an encoder, then for a decoder
        self._encode_begun = False

    async def run(self, deadline: float) -> web.StreamResponse:
        """The client's response, by `deadline` (of the event loop's clock).

        Raises:
            ApiError: the request ended with this error, and nothing was delivered.
            ClientLeft: nobody waits for the answer any more.
        """
        try:
            async with asyncio.timeout_at(deadline):
                with self._link.open(self._request) as decisions:
                    self._link.send(self._submission(deadline))
                    self._start(self._follow(decisions))
                    await self._end
                    return await self._delivery.finish()
        except TimeoutError:
            error = deadline_exceeded("The request took longer than this server allows")
        except ApiError as ended:
            error = ended
        finally:
            if not self._scheduler_knows:
                self._link.send(Cancel(self._request))
            await self._stop()
        return await self._delivery.fail(error)

    def _submission(self, deadline: float) -> Submit:
        parsed = self._parsed
        left = max(0.0, deadline - asyncio.get_running_loop().time())
        sizes = (parsed.text_tokens, parsed.output_tokens)
        return Submit(self._request, parsed.items, *sizes, left, self._tenant.name, self._tenant.weight)

    async def _follow(self, decisions: asyncio.Queue[ToGateway]) -> None:
        while True:
            match await decisions.get():
                case Encode() as encode:
                    self._start(self._encode(encode))
                case Decode() as decode:
                    await self._replace_decode(decode)
                case Reject() as reject:
                    self._scheduler_knows = True
                    self._fail(rejected(reject))

    async def _encode(self, encode: Encode) -> None:
        if not self._encode_begun:
            self._encode_begun = True
            self._timing.end("encode_wait", self._waiting_since)
        part = next((part for part in self._parsed.media if part.uuid == encode.uuid), None)
        if part is None:
            reason = "the request has no such item"
            self._link.send(EncodeFailed(self._request, encode.worker, encode.uuid, reason, retryable=False))
            return
        began = time.monotonic()
        try:
            embedding = await self._upstream.encode(encode.url, self._request, self._parsed, part)
        except EngineFailed as failure:
            self._count_retry("encode", failure.retryable)
            failed = (failure.reason, failure.retryable, failure.unreachable)
            self._link.send(EncodeFailed(self._request, encode.worker, encode.uuid, *failed))
        else:
            seconds = self._timing.end("encode", began)
            self._waiting_since = time.monotonic()
            nbytes = tensor_nbytes(embedding.shape, embedding.dtype)
            self._link.send(EncodeDone(self._request, encode.worker, embedding, seconds, nbytes))

    async def _replace_decode(self, decode: Decode) -> None:
        """Begin an attempt; the scheduler has given the one before up, even if its engine has not failed us yet."""
        if self._decoding is not None:
            self._decoding.cancel()
            await asyncio.wait([self._decoding])
        if self._delivery.response is not None:
            self._decode_failed(decode, EngineFailed("the engine before was lost in mid-answer", retryable=False))
            return
        self._decoding = self._start(self._decode(decode))

    async def _decode(self, decode: Decode) -> None:
        self._timing.end("decode_wait", self._waiting_since)
        began = time.monotonic()
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
            self._fail(prompt_too_long(f"The request's images have {image_tokens} tokens", self._parsed.max_model_len))
            return
        try:
            tokens = await self._generate(decode, began)
        except EngineFailed as failure:
            self._waiting_since = time.monotonic()
            self._decode_failed(decode, failure)
        except ClientLeft as left:
            self._fail(left)
        else:
            self._scheduler_knows = True
            self._link.send(DecodeDone(self._request, decode.worker, tokens, time.monotonic() - began))
            if not self._end.done():
                self._end.set_result(None)

    async def _generate(self, decode: Decode, began: float) -> int:
        """Post the request and deliver the answer; returns its tokens.

        An engine's judgement that the request is wrong (4xx) is an answer too, of 0 tokens: the engine is well, and
        the client must read it.

        Raises:
            EngineFailed: the answer is not complete.
            ClientLeft: nobody listens any more.
        """
        body = decode_body(self._parsed, self._request, decode.embeddings)
        async with self._upstream.post(decode.url, self._parsed.path, self._request, body) as answer:
            if answer.status == 200 and self._parsed.stream:
                return await self._stream(decode, answer, began)
            content = await read_limited(answer, MAX_ANSWER_BYTES)
        if answer.status != 200 and answer.status not in _FORWARDED:
            raise await self._upstream.decode_failure(decode.url, self._request, answer.status, error_message(content))
        self._timing.end("decode", began)
        self._delivery.answer(answer.status, content)
        return completion_tokens(content) if answer.status == 200 else 0

    async def _stream(self, decode: Decode, answer: ClientResponse, began: float) -> int:
        tally = Tally()
        withheld = b""
        try:
            async for events in whole_events(answer.content.iter_any()):
                tally.read(events)
                withheld += events if tally.error is None else named_errors(events)
                if self._delivery.response is None:
                    if tally.error is not None:
                        raise await self._upstream.decode_failure(decode.url, self._request, 500, tally.error)
                    if not (tally.begun or tally.complete or len(withheld) > MAX_WITHHELD_BYTES):
                        continue
                    self._timing.end("decode_first", began)
                await self._delivery.write(withheld, last=tally.complete)
                withheld = b""
        except EventTooLong as error:
            raise EngineFailed(str(error), retryable=False) from error
        if not tally.complete:
            raise EngineFailed("the engine's stream ended before its answer was complete", retryable=True)
        if tally.error is not None:
            raise EngineFailed(tally.error, retryable=False)
        self._timing.end("decode", began)
        return tally.tokens

    def _decode_failed(self, decode: Decode, failure: EngineFailed) -> None:
        delivered = self._delivery.response is not None
        retryable = failure.retryable and not delivered
        self._count_retry("decode", retryable)
        lost = tuple(embedding.uuid for embedding in decode.embeddings if embedding.key in failure.lost)
        self._link.send(
            DecodeFailed(self._request, decode.worker, failure.reason, retryable, lost, failure.unreachable)
        )
        if delivered:
            # Otherwise the scheduler has the word: another attempt, or a rejection with this reason.
            self._scheduler_knows = True
            self._fail(decode_failed(failure.reason))

    def _count_retry(self, phase: str, retryable: bool) -> None:
        if retryable:
            self._metrics.retries.labels(phase).inc()

    def _fail(self, error: BaseException) -> None:
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
            self._fail(internal_error())

    async def _stop(self) -> None:
        tasks = tuple(self._tasks)
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
