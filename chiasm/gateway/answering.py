"""From an engine's answer to the client's: one attempt after the other to have a request answered, and what of it is
delivered. Knows nothing of the scheduler's decisions but the Decode that it is to carry out.
"""

import time
from collections.abc import Callable, Mapping

import msgspec
from aiohttp import ClientResponse

from chiasm.continuation import Transcript
from chiasm.gateway.bodies import completion_tokens, decode_body, error_message
from chiasm.gateway.delivery import Delivery
from chiasm.gateway.errors import decode_failed
from chiasm.gateway.parsing import ParsedRequest
from chiasm.gateway.sse import EventTooLong, Tally, named_errors, whole_events
from chiasm.gateway.upstream import MAX_ANSWER_BYTES, MISCONFIGURED, EngineFailed, Upstream, read_limited
from chiasm.messages import Decode
from chiasm.nouns import RequestId, Role

MAX_WITHHELD_BYTES = 1 << 20
"""A stream that opens with more than this before its first token is delivered all the same."""

_FORWARDED = frozenset(range(400, 500)) - {408, 429, *MISCONFIGURED}


class Answering:
    """Answers one request. A text that a thief generates may have to move, so its stream is kept account of; all other
    answers are the engine's own bytes. `begun` is called with each attempt's first token, of a stream, and `over` when
    its engine has said its last.
    """

    def __init__(
        self,
        request: RequestId,
        parsed: ParsedRequest,
        upstream: Upstream,
        delivery: Delivery,
        begun: Callable[[Decode], None],
        over: Callable[[], None],
    ) -> None:
        self._request = request
        self._parsed = parsed
        self._upstream = upstream
        self._delivery = delivery
        self._begun = begun
        self._over = over
        self._transcript: Transcript | None = None  # of what is delivered, if it may move
        self._tally = Tally()  # of the latest attempt's stream
        self._before = 0  # tokens that stood when the latest attempt began
        self.ended_at: float | None = None  # when the latest attempt's stream said its last, by the monotonic clock

    @property
    def obstacle(self) -> str | None:
        """Why no other engine can take over now; None if one can, from the beginning or from where this one was."""
        if self._delivery.response is None:
            return None
        return "a part of it has been delivered" if self._transcript is None else self._transcript.obstacle

    def begin(self) -> None:
        """Another attempt is due."""
        self._before += self.generated
        self._tally, self.ended_at = Tally(), None

    @property
    def generated(self) -> int:
        """Tokens of the latest attempt that another engine would build upon."""
        if self._transcript is None or self._delivery.response is None:
            return 0
        return max(0, self._transcript.tokens - self._before)

    @property
    def standing(self) -> int:
        """Tokens of all attempts that another engine would build upon."""
        return self._before + self.generated

    @property
    def ended(self) -> int | None:
        """Tokens of the latest attempt, if it is a stream that its engine has brought to its end."""
        if not self._tally.complete or self._tally.error is not None:
            return None
        return self._tally.tokens if self._transcript is None else self.generated

    async def complete(self) -> int | None:
        """Tokens of the latest attempt if the last has been delivered, with what comes behind it; else None.

        Raises:
            ClientLeft: nobody listens any more.
        """
        if self._transcript is None or self._delivery.response is None or not self._transcript.over:
            return self.ended
        if ending := self._transcript.ending():
            await self._delivery.write(ending, tokens=False, last=True)
        return self.generated

    async def attempt(self, decode: Decode, headers: Mapping[str, str]) -> int:
        """Have the engine of `decode` generate what is missing and deliver it; returns the tokens that it took.

        `headers` are sent along.

        An engine's judgement that the request is wrong (4xx) is an answer too, of 0 tokens: the engine is well, and
        the client must read it.

        Raises:
            EngineFailed: the answer is not complete.
            ClientLeft: nobody listens any more.
        """
        if (tokens := await self.complete()) is not None:
            return tokens
        path, body = await self._what_to_post(decode)
        async with self._upstream.post(decode.url, path, self._request, body, headers) as answer:
            if answer.status == 200 and self._parsed.stream:
                return await self._stream(decode, answer)
            content = await read_limited(answer, MAX_ANSWER_BYTES)
        if answer.status != 200 and (answer.status not in _FORWARDED or self._delivery.response is not None):
            raise await self._upstream.decode_failure(decode.url, self._request, answer.status, error_message(content))
        self._over()
        self._delivery.answer(answer.status, content)
        return completion_tokens(content) if answer.status == 200 else 0

    async def _what_to_post(self, decode: Decode) -> tuple[str, bytes]:
        parsed = self._parsed
        if self._delivery.response is None:  # whatever was generated before, it begins anew
            moves = decode.role is Role.TEXT and parsed.stream and parsed.may_move
            limits = parsed.max_model_len, parsed.longest_answer
            self._transcript = Transcript(parsed.path, parsed.body, *limits) if moves else None
        if self._transcript is None:
            return parsed.path, decode_body(parsed, self._request, decode.embeddings)
        while doubtful := self._transcript.doubtful:
            text = await self._upstream.text_of(decode.url, self._request, parsed.body["model"], doubtful)
            self._transcript.judge(text)
        path, body = self._transcript.request()
        return path, msgspec.json.encode(body)

    async def _stream(self, decode: Decode, answer: ClientResponse) -> int:
        tally, transcript = self._tally, self._transcript
        withheld, begun, delivered = b"", False, 0
        try:
            async for events in whole_events(answer.content.iter_any()):
                tally.read(events)
                if tally.complete and self.ended_at is None:
                    self.ended_at = time.monotonic()
                    self._over()
                if tally.begun and not begun:
                    begun = True
                    self._begun(decode)
                if tally.error is not None and (transcript is not None or self._delivery.response is None):
                    raise await self._upstream.decode_failure(decode.url, self._request, 500, tally.error)
                if transcript is not None:
                    withheld += transcript.take(events)
                else:
                    withheld += events if tally.error is None else named_errors(events)
                due = tally.begun or tally.complete or len(withheld) > MAX_WITHHELD_BYTES
                if self._delivery.response is None and not due:
                    continue
                failed = None if tally.error is None else decode_failed(tally.error)
                tokens = tally.events > delivered
                await self._delivery.write(withheld, tokens=tokens, last=tally.complete, error=failed)
                withheld, delivered = b"", tally.events
        except EventTooLong as error:
            raise EngineFailed(str(error), retryable=False) from error
        if not tally.complete:
            raise EngineFailed("the engine's stream ended before its answer was complete", retryable=True)
        if tally.error is not None:
            raise EngineFailed(tally.error, retryable=False)
        return tally.tokens if transcript is None else self.generated
