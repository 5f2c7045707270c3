"""Streams of text, and beside them, one after another: pictures, texts of as many tokens, and pictures at once."""

import asyncio
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from bench.diagnosis.bodies import Body, picture_body, stream_body, text_body
from bench.diagnosis.careful import Asker
from bench.diagnosis.metrics import Page
from bench.diagnosis.plan import FEWEST_SWEEPS, STREAMS, Effort, Rung
from bench.diagnosis.probing import Known
from bench.diagnosis.stalls import Run, Window
from bench.load.answers import Answer

PICTURE, TEXT, BURST = "picture", "text", "burst"

PAUSE_GAPS = 8  # of streams, between two requests: what their usual gap is told by
LEAST_PAUSE_S = 0.15
SETTLED_S = 0.5  # until streams run, beside their time to first token
ANSWER_S = 4.0  # about how long one answer of a stream takes ...
ANSWERS_WINDOWS = 4  # ... or so many times as long as the slowest request
ANSWER_BOUNDS = 32, 1024  # tokens of it
SWEEPS_SHARE = 0.65  # of the time; the rest is for pictures at once
CLOCK_WAIT_S = 0.02
CLOCK_TRIES = 10


@dataclass(frozen=True)
class Carried:
    """What went on beside the streams at one time: one request, or several at once."""

    kind: str
    sweep: int  # or round
    rung: int  # of the ladder; of a burst, how many at once
    tokens: float  # that each of them carried
    window: Window  # from when they were sent to the first token of the last
    ttft_ms: float  # mean
    prefill_ms: float | None  # by vLLM's own clock; None: not told of this one alone
    queued_ms: float | None


@dataclass
class Measured:
    """What was seen, as far as it came. Of a stream's answers, all pieces but the first, which only names a role."""

    runs: list[Run] = field(default_factory=list)
    busy: list[Window] = field(default_factory=list)  # when streams were not left alone, in order
    carried: list[Carried] = field(default_factory=list)


class Sweeps:
    """Runs all of it; what there is when time is up counts."""

    def __init__(
        self,
        asker: Asker,
        effort: Effort,
        known: Known,
        longest: int | None,
        dice: random.Random,
        say: Callable[[str], None],
    ) -> None:
        self.measured = Measured()
        self._asker = asker
        self._known = known
        self._say = say
        self._dice = dice
        self._over = False
        self._pause_s = max(LEAST_PAUSE_S, PAUSE_GAPS * known.gap_s)
        self._answer_tokens = _answer_tokens(known, longest)
        # Drawn before anything is timed: to make a large picture takes longer than a token.
        self._bodies = [
            {(kind, rung): self._body(kind, rung) for kind in (PICTURE, TEXT) for rung in range(len(known.ladder))}
            for _ in range(effort.sweeps)
        ]
        middle = known.judged if known.judged == known.ladder[0] else known.ladder[1]
        self._bursts = [
            {size: [picture_body(middle.size, middle.pictures, 1, dice) for _ in range(size)] for size in effort.bursts}
            for _ in range(effort.rounds)
        ]

    def _body(self, kind: str, rung: int) -> Body:
        carries: Rung = self._known.ladder[rung]
        if kind == PICTURE:
            return picture_body(carries.size, carries.pictures, 1, self._dice)
        return text_body(self._known.words(carries.tokens), 1, self._dice)

    async def run(self, until_s: float) -> None:
        """Until then, by the asker's clock, or until everything is done.

        Raises:
            ExceptionGroup: of `Stopped`.
        """
        last_s = until_s - self._known.gap_s * self._answer_tokens  # streams end their answers after it
        try:
            async with asyncio.timeout(max(0.0, until_s - self._asker.now())), asyncio.TaskGroup() as group:
                for number in range(STREAMS):
                    group.create_task(self._stream(number))
                await asyncio.sleep(SETTLED_S + self._known.slowest_s)
                await self._ladders(last_s)
                await self._at_once(last_s)
                self._over = True
        except TimeoutError:
            pass

    async def _stream(self, number: int) -> None:
        tokens = self._answer_tokens * (number + 1) // STREAMS  # so that not all begin anew at one time
        while not self._over:
            answer = await self._asker.ask("stream", stream_body(max(2, tokens), self._dice))
            self.measured.runs.append(answer.chunks_s[1:])
            tokens = self._answer_tokens

    async def _ladders(self, last_s: float) -> None:
        began = self._asker.now()
        until_s = began + SWEEPS_SHARE * (last_s - began)
        for sweep, bodies in enumerate(self._bodies):
            order = list(bodies)
            self._dice.shuffle(order)
            for kind, rung in order:
                if self._asker.now() > (last_s if sweep < FEWEST_SWEEPS else until_s):
                    return
                self._say(f"sweep {sweep + 1} of at most {len(self._bodies)}")
                await self._carry(kind, sweep, rung, [bodies[kind, rung]])

    async def _at_once(self, last_s: float) -> None:
        for number, bursts in enumerate(self._bursts):
            sizes = list(bursts)
            self._dice.shuffle(sizes)
            for size in sizes:
                if self._asker.now() > last_s:
                    return
                self._say(f"{size} at once, round {number + 1} of {len(self._bursts)}")
                await self._carry(BURST, number, size, bursts[size])

    async def _carry(self, kind: str, sweep: int, rung: int, bodies: Sequence[Body]) -> None:
        await self._asker.turn(len(bodies))
        asked_s = self._asker.now()
        before = await self._asker.page()
        self.measured.busy.append((asked_s, self._asker.now()))
        await asyncio.sleep(self._pause_s)
        asked_s = self._asker.now()
        answers = await self._asker.ask_at_once(kind, bodies)
        prefill_ms, queued_ms = await self._by_vllm(before, answers)
        self.measured.busy.append((asked_s, self._asker.now()))
        sent_s, first_s = min(each.sent_s for each in answers), max(each.chunks_s[0] for each in answers)
        self.measured.carried.append(
            Carried(
                kind=kind,
                sweep=sweep,
                rung=rung,
                tokens=_mean([self._tokens(answer) for answer in answers]),
                window=(sent_s, first_s),
                ttft_ms=1000 * _mean([answer.ttft_s for answer in answers]),
                prefill_ms=prefill_ms,
                queued_ms=queued_ms,
            )
        )

    def _tokens(self, answer: Answer) -> int:
        assert answer.prompt_tokens is not None
        return answer.prompt_tokens - self._known.question_tokens

    async def _by_vllm(self, before: Page | None, answers: Sequence[Answer]) -> tuple[float | None, float | None]:
        """Prefill and queueing of one request, if no other has ended meanwhile."""
        if before is None or len(answers) > 1:
            return None, None
        for _ in range(CLOCK_TRIES):
            page = await self._asker.page()
            if page is None or page.clock.ended > before.clock.ended + 1:
                break
            if page.clock.ended == before.clock.ended + 1:
                now, then = page.clock, before.clock
                if now.prompt_tokens - then.prompt_tokens != answers[0].prompt_tokens:
                    break  # it was another
                return 1000 * (now.prefill_s - then.prefill_s), 1000 * (now.queued_s - then.queued_s)
            await asyncio.sleep(CLOCK_WAIT_S)
        return None, None


def _answer_tokens(known: Known, longest: int | None) -> int:
    least, most = ANSWER_BOUNDS
    wanted = round(max(ANSWER_S, ANSWERS_WINDOWS * known.slowest_s) / known.gap_s)
    room = most if longest is None else longest // 2
    return max(min(least, room), min(wanted, most, room))


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
