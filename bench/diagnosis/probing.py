"""The first requests, one after another: how many tokens pictures and words make, and their room in the KV cache."""

import asyncio
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from bench.diagnosis.bodies import Body, picture_body, stream_body, text_body
from bench.diagnosis.careful import Asker, Stopped
from bench.diagnosis.plan import Effort, Rung, by_number, by_size
from bench.diagnosis.sizes import Size

FEWEST_RUNGS = 3  # a slope needs so many
WORDS = 200  # of a text that tells how many tokens a word has
STREAM = 32  # tokens of a stream that tells how long a gap is
KV_ANSWER = 32  # tokens, so that a request with a picture can be seen in the KV cache
POLL_S = 0.02
FEWEST_PIECES = 4  # of that stream: a piece may have several tokens
LEAST_GAP_S = 1e-4  # what comes quicker was held back, and let go at once


@dataclass(frozen=True)
class KvReading:
    """What one request had of the KV cache when it had most of it, and how many tokens it had then."""

    share: float
    tokens: int


@dataclass(frozen=True)
class SizeSeen:
    """One size that is sent."""

    rung: Rung
    prompt_tokens: int
    kv: KvReading | None  # None: not to be measured there


@dataclass(frozen=True)
class Known:
    """What the first requests taught."""

    question_tokens: int  # of a prompt with neither picture nor text
    word_tokens: float
    gap_s: float  # of a stream that nobody disturbs
    slowest_s: float  # time to first token of the slowest of these requests
    ladder: tuple[Rung, ...]
    judged: Rung  # a request with the largest picture that is sent
    sizes: tuple[SizeSeen, ...]

    def words(self, tokens: int) -> int:
        """About so many tokens of text."""
        return max(1, round(tokens / self.word_tokens))


async def probe(
    asker: Asker, effort: Effort, sizes: Sequence[Size], dice: random.Random, say: Callable[[str], None]
) -> Known:
    """Ask them.

    Raises:
        Stopped: one failed, or no picture makes more tokens than another.
    """
    say("a question, a text, a stream")
    question = await _tokens(asker, "text", text_body(0, 1, dice))
    word_tokens = (await _tokens(asker, "text", text_body(WORDS, 1, dice)) - question) / WORDS
    if word_tokens <= 0:
        raise Stopped("The server counts no more tokens for a long text than for a short one; its usage is of no use.")
    await asker.turn()
    stream = await asker.ask("stream", stream_body(STREAM, dice))
    gap_s = _gap_s(stream.chunks_s)
    seen = []
    for size in sizes:
        say(f"a picture of {size[0]} x {size[1]}")
        seen.append(await _size_seen(asker, size, question, dice))
    ladder, slowest_s = await _ladder(asker, effort, sizes[-1], question, dice, say)
    judged = next(rung for rung in reversed(ladder) if rung.size == sizes[-1] and rung.pictures == 1)
    return Known(question, word_tokens, gap_s, slowest_s, ladder, judged, tuple(seen))


def _gap_s(pieces: Sequence[float]) -> float:
    """The mean, without the first piece, which only names a role."""
    gap_s = (pieces[-1] - pieces[1]) / (len(pieces) - 2) if len(pieces) >= FEWEST_PIECES else 0.0
    if gap_s < LEAST_GAP_S:
        raise Stopped(
            "Answers do not come token by token, so nothing can be told of the gaps between tokens. If a proxy stands "
            "before the server and holds streams back, ask the server itself."
        )
    return gap_s


async def _tokens(asker: Asker, kind: str, body: Body) -> int:
    await asker.turn()
    answer = await asker.ask(kind, body)
    assert answer.prompt_tokens is not None
    return answer.prompt_tokens


async def _ladder(
    asker: Asker, effort: Effort, largest: Size, question: int, dice: random.Random, say: Callable[[str], None]
) -> tuple[tuple[Rung, ...], float]:
    for rungs in (by_size(effort, largest), by_number(effort, largest)):
        counted = []
        slowest_s = 0.0
        for rung in rungs:
            say(f"{rung.pictures} x {rung.size[0]} x {rung.size[1]}")
            await asker.turn()
            answer = await asker.ask("picture", picture_body(rung.size, rung.pictures, 1, dice))
            assert answer.prompt_tokens is not None
            counted.append(replace(rung, tokens=answer.prompt_tokens - question))
            slowest_s = max(slowest_s, answer.ttft_s)
        different = {rung.tokens: rung for rung in counted}  # of several with as many tokens, the largest
        if len(different) >= FEWEST_RUNGS:
            return tuple(different.values()), slowest_s
    raise Stopped(
        "Pictures make the same number of tokens whatever their size and number, so nothing can be told of what "
        "a token costs. Name larger --sizes; is the model one that sees?"
    )


async def _size_seen(asker: Asker, size: Size, question: int, dice: random.Random) -> SizeSeen:
    await asker.turn()
    before = await asker.page()
    asked = asyncio.create_task(asker.ask("picture", picture_body(size, 1, KV_ANSWER, dice)))
    reading: KvReading | None = None
    try:
        while before is not None and before.running == 0 and not asked.done():
            await asyncio.wait([asked], timeout=POLL_S)
            page = await asker.page()
            if page is not None and page.running == 1 and page.taken - before.taken > (reading.share if reading else 0):
                reading = KvReading(page.taken - before.taken, page.generated - before.generated)
        answer = await asked
    finally:
        asked.cancel()
    assert answer.prompt_tokens is not None
    if reading is not None:  # an answer's last token is not in the cache yet
        reading = replace(reading, tokens=answer.prompt_tokens + max(0, reading.tokens - 1))
    return SizeSeen(Rung(size, 1, answer.prompt_tokens - question), answer.prompt_tokens, reading)
