"""The first requests, one after another: how many tokens pictures and words make, and their room in the KV cache."""

import asyncio
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from bench.diagnosis.asking import Asker, Refused, Stopped
from bench.diagnosis.plan import Body, Effort, Rung, by_number, by_size, picture_body, stream_body, text_body
from bench.diagnosis.sizes import Sent, Size
from bench.diagnosis.stalls import held_back
from bench.load.answers import Answer

FEWEST_RUNGS = 3  # of a ladder of sizes, before one of numbers is tried
WORDS = 200  # of a text that tells how many tokens a word has
STREAM = 64  # tokens of a stream that tells how long a gap is
KV_ANSWER = 32  # tokens, so that a request with a picture can be seen in the KV cache
POLL_S = 0.02
FEWEST_PIECES = 4  # of that stream: a piece may have several tokens
HELD_BACK = (
    "Answers do not come token by token: something holds them back and lets several go at once, so nothing can be told "
    "of the gaps between tokens. If a proxy stands before the server, ask the server itself, or turn its buffering off."
)


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
    gap_s: float  # between the pieces of a stream that nobody disturbs
    piece_tokens: float
    ladder: tuple[Rung, ...]
    first_s: tuple[float, ...]  # each rung's time to first token, with no streams beside it
    judged: Rung  # the request that the verdict is about: the largest pictures that are sent, as many as are
    sizes: tuple[SizeSeen, ...]

    @property
    def at_once(self) -> Rung:
        """What each request carries of several that come at once: one of the lower rungs, for many are sent."""
        return self.judged if self.judged == self.ladder[0] else self.ladder[1]

    def words(self, tokens: int) -> int:
        """About so many tokens of text."""
        return max(1, round(tokens / self.word_tokens))


async def probe(asker: Asker, effort: Effort, sent: Sent, dice: random.Random, say: Callable[[str], None]) -> Known:
    """Ask them.

    Raises:
        Stopped: one failed, or pictures make no tokens, or answers do not come token by token.
    """
    say("a question, a text, a stream")
    question = _prompt_tokens(await _asked(asker, "text", text_body(0, dice)))
    word_tokens = (_prompt_tokens(await _asked(asker, "text", text_body(WORDS, dice))) - question) / WORDS
    if word_tokens <= 0:
        raise Stopped("The server counts no more tokens for a long text than for a short one; its usage is of no use.")
    stream = await _asked(asker, "stream", stream_body(STREAM, dice))
    pieces = stream.chunks_s[1:]  # the first only names a role
    if len(pieces) < FEWEST_PIECES or held_back(stream.itls_s[1:]):
        raise Stopped(HELD_BACK)
    seen = []
    for size in sent.sizes:
        say(f"a picture of {size[0]} x {size[1]}")
        seen.append(await _size_seen(asker, size, question, dice))
    ladder = await _ladder(asker, effort, sent, question, dice, say)
    wanted = sent.sizes[-1], sent.per_request
    return Known(
        question_tokens=question,
        word_tokens=word_tokens,
        gap_s=(pieces[-1] - pieces[0]) / (len(pieces) - 1),
        piece_tokens=stream.output_tokens / len(pieces),
        ladder=tuple(ladder),
        first_s=tuple(ladder.values()),
        judged=next(rung for rung in reversed(ladder) if (rung.size, rung.pictures) == wanted),
        sizes=tuple(seen),
    )


async def _asked(asker: Asker, kind: str, body: Body) -> Answer:
    await asker.turn()
    return await asker.ask(kind, body)


def _prompt_tokens(answer: Answer) -> int:
    assert answer.prompt_tokens is not None
    return answer.prompt_tokens


async def _ladder(
    asker: Asker, effort: Effort, sent: Sent, question: int, dice: random.Random, say: Callable[[str], None]
) -> dict[Rung, float]:
    """With each rung's time to first token."""
    counted = await _counted(asker, by_size(effort, sent), question, dice, say)
    if len(counted) < FEWEST_RUNGS:
        counted = await _counted(asker, by_number(effort, sent), question, dice, say)
    if min(rung.tokens for rung in counted) <= 0:
        raise Stopped("Pictures make no tokens there. Is the model one that sees?")
    return counted


async def _counted(
    asker: Asker, rungs: Sequence[Rung], question: int, dice: random.Random, say: Callable[[str], None]
) -> dict[Rung, float]:
    found: dict[int, tuple[Rung, float]] = {}  # of several with as many tokens, the largest
    for rung in rungs:
        say(str(rung))
        try:
            answer = await _asked(asker, "picture", await asyncio.to_thread(picture_body, rung, 1, dice))
        except Refused:
            if not found or rung.pictures == 1:
                raise
            break  # of the pictures that a request may have, it has an opinion: --limit-mm-per-prompt
        tokens = _prompt_tokens(answer) - question
        found[tokens] = replace(rung, tokens=tokens), answer.waited_s
    return dict(found.values())


async def _size_seen(asker: Asker, size: Size, question: int, dice: random.Random) -> SizeSeen:
    body = await asyncio.to_thread(picture_body, Rung(size, 1), KV_ANSWER, dice)
    await asker.turn()
    before = await asker.page()
    asked = asyncio.create_task(asker.ask("picture", body))
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
    tokens = _prompt_tokens(answer)
    if reading is not None:  # an answer's last token is not in the cache yet
        reading = replace(reading, tokens=tokens + max(0, reading.tokens - 1))
    return SizeSeen(Rung(size, 1, tokens - question), tokens, reading)
