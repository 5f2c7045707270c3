"""How long an engine's steps take, asked of the engine itself over its HTTP API before anybody else asks it anything.

Some streams run, and one of them, the witness, is timed. It gets a token in each step, so its gaps are the steps; and
while a prompt is computed beside it, the longest gap is the step that had the prompt. It is what a client sees, too.
"""

import asyncio
import contextlib
import random
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from statistics import median
from typing import Any

import aiohttp

from chiasm.calibration import Step, prompt_sizes

DEADLINE_S = 20.0
MOST_STREAMS = 32
STREAM_PROMPT = 8  # tokens
STREAM_TOKENS = 1024  # that a stream may get; while steps are measured it gets some hundred
WARMING = 2
GAPS = 8  # that are measured at each number of streams; the median counts
PROBES = 3  # prompts of each size, likewise; the first of a size may be slow
WORDS = "The quick brown fox jumps over the lazy dog; 0123456789 PACK MY BOX WITH FIVE DOZEN LIQUOR JUGS, said he."


class NotMeasured(RuntimeError):
    """The engine's steps could not be measured; the message says why."""


class _StreamEnded(Exception):
    """The witness has got all its tokens."""


@dataclass(frozen=True)
class Room:
    """What there is to measure."""

    streams: int  # at most
    prompt: int  # tokens of a prompt, at most
    context: int  # tokens of a stream with its prompt, at most


async def measure_steps(
    url: str,
    token: str,
    model: str,
    room: Room,
    objective_s: float,
    deadline_s: float = DEADLINE_S,
    clock: Callable[[], float] = time.monotonic,
) -> tuple[Step, ...]:
    """Steps of the engine at `url`: decoding alone, with more and more streams, and then prompts beside these.

    There are as many streams in the end as leave prompts half of the objective or more. Prompts grow until a step is
    beyond the objective. After `deadline_s` the steps measured so far must do.

    Raises:
        NotMeasured: the engine did not answer as it should.
    """
    steps: list[Step] = []
    authorization = {"Authorization": f"Bearer {token}"}
    timeout = aiohttp.ClientTimeout(total=None)
    try:
        async with aiohttp.ClientSession(url, headers=authorization, timeout=timeout) as session:
            with contextlib.suppress(TimeoutError, _StreamEnded):
                async with asyncio.timeout(deadline_s):
                    await _Measurement(session, model, room, clock).run(objective_s, steps)
    except (aiohttp.ClientError, ValueError, LookupError) as error:
        raise NotMeasured(f"the engine did not answer as it should: {type(error).__name__}: {error}") from error
    return tuple(steps)


class _Measurement:
    def __init__(self, session: aiohttp.ClientSession, model: str, room: Room, clock: Callable[[], float]) -> None:
        self._session = session
        self._model = model
        self._room = room
        self._clock = clock
        self._tokens: list[int]
        self._witness: aiohttp.ClientResponse
        self._seen: float  # when the witness's last token came
        self._others: list[asyncio.Task[None]] = []
        self._streams = contextlib.AsyncExitStack()  # their connections: the engine ends a stream whose own is closed

    async def run(self, objective_s: float, steps: list[Step]) -> None:
        """Append each step that is measured to `steps`."""
        try:
            self._tokens = await self._plain_tokens()
            self._witness = await self._start_stream()
            await self._next_token()
            self._seen = self._clock()
            await self._decode_alone(objective_s, steps)
            if steps[-1].seconds <= objective_s:
                await self._with_prompts(objective_s, steps)
        finally:
            for task in self._others:
                task.cancel()
            await asyncio.gather(*self._others, return_exceptions=True)
            await self._streams.aclose()

    async def _plain_tokens(self) -> list[int]:
        """Tokens of plain words, so that none is one of those with a meaning, as an image's placeholder."""
        body = {"model": self._model, "prompt": WORDS, "add_special_tokens": False}
        async with self._session.post("/tokenize", json=body, raise_for_status=True) as answer:
            tokens: list[int] = (await answer.json())["tokens"]
        return tokens

    async def _decode_alone(self, objective_s: float, steps: list[Step]) -> None:
        while True:
            streams = 1 + len(self._others)
            for _ in range(WARMING):
                await self._gap()
            steps.append(Step(streams, 0, median([await self._gap() for _ in range(GAPS)])))
            # Twice the streams take at most twice the time.
            if steps[-1].seconds > objective_s / 4 or 2 * streams > self._room.streams:
                return
            await self._longest_gap(self._start_others(streams))

    async def _with_prompts(self, objective_s: float, steps: list[Step]) -> None:
        for prompt in prompt_sizes(self._room.prompt):
            stalls = [await self._longest_gap(self._compute(prompt)) for _ in range(PROBES)]
            steps.append(Step(1 + len(self._others), prompt, median(stalls)))
            if min(stalls) > objective_s:
                return

    async def _start_others(self, count: int) -> None:
        """So many more streams; returns when each has got a token."""
        answers = await asyncio.gather(*(self._start_stream() for _ in range(count)))
        for answer in answers:
            await answer.content.readline()
        self._others += [asyncio.create_task(_drain(answer)) for answer in answers]

    async def _start_stream(self) -> aiohttp.ClientResponse:
        length = min(STREAM_TOKENS, self._room.context - STREAM_PROMPT)
        return await self._streams.enter_async_context(self._post(STREAM_PROMPT, length, stream=True))

    async def _compute(self, prompt: int) -> None:
        """Have the engine compute a prompt of so many tokens."""
        async with self._post(prompt, 1, stream=False) as answer:
            await answer.read()

    def _post(
        self, prompt: int, max_tokens: int, stream: bool
    ) -> contextlib.AbstractAsyncContextManager[aiohttp.ClientResponse]:
        body = {
            "model": self._model,
            "prompt": random.choices(self._tokens, k=prompt),  # each another, or it would be found in the prefix cache
            "max_tokens": max_tokens,
            "ignore_eos": True,
            "temperature": 0,
            "stream": stream,
        }
        return self._session.post("/v1/completions", json=body, raise_for_status=True)

    async def _longest_gap(self, work: Coroutine[Any, Any, None]) -> float:
        """Seconds of the longest step from the beginning of `work` to the first token after its end."""
        task = asyncio.create_task(work)
        longest = 0.0
        try:
            over = False
            while not over:
                over = task.done()
                longest = max(longest, await self._gap())
            await task
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        return longest

    async def _gap(self) -> float:
        """Seconds from the witness's last token to the next."""
        await self._next_token()
        before, self._seen = self._seen, self._clock()
        return self._seen - before

    async def _next_token(self) -> None:
        while line := await self._witness.content.readline():
            content = line.removeprefix(b"data:").strip()
            if content == b"[DONE]":
                raise _StreamEnded
            if b'"choices"' in content:
                return
            if content:
                raise ValueError(content.decode(errors="replace"))
        raise ValueError("a stream broke off")


async def _drain(answer: aiohttp.ClientResponse) -> None:
    async for _ in answer.content.iter_any():
        pass
