"""Streams of text, and beside them, in turn: pictures, texts of as many tokens, nothing; then several at once."""

import asyncio
import math
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import product
from statistics import fmean

from bench.diagnosis.asking import SLOWER_S, Asker, Stopped
from bench.diagnosis.metrics import Traffic
from bench.diagnosis.plan import (
    ANSWER_S,
    FEWEST_SWEEPS,
    STREAMS,
    Body,
    Effort,
    Rung,
    picture_body,
    stream_body,
    text_body,
)
from bench.diagnosis.probing import Known
from bench.diagnosis.stalls import Run, Window, apart, quiet_gaps, stall

PICTURE, TEXT, NOTHING = "picture", "text", "nothing"
PICTURES_AT_ONCE, TEXTS_AT_ONCE = "pictures at once", "texts at once"
IN_PLACE_OF = {TEXT: PICTURE, NOTHING: PICTURE, TEXTS_AT_ONCE: PICTURES_AT_ONCE}

PAUSE_GAPS = 8  # of streams, between two requests: what their usual gap is told by
LEAST_PAUSE_S = 0.15
SETTLED_S = 0.5  # until streams run, beside their time to first token
ANSWERS_WINDOWS = 4  # times as long as the slowest request, an answer of a stream takes at least
ANSWER_BOUNDS = 32, 1024  # tokens of it
SWEEPS_SHARE = 0.65  # of the time; the rest is for requests at once
TELLING_GAPS = 8  # that nothing of ours touched: so many of one answer say how fast it came
SEVERAL = (
    "Stopped, for some streams wait when a picture comes and others do not: several engines stand behind this address. "
    "Name one of them, for what happens on one is what counts."
)


@dataclass(frozen=True)
class Carried:
    """What went on beside the streams at one time: one request, or several at once, or nothing."""

    kind: str
    sweep: int  # or round
    rung: int  # of the ladder; of requests at once, how many
    tokens: float  # that each of them carried
    window: Window  # from when they were sent to the first token of the last; at least as long as a picture's was
    ttft_ms: float  # mean; of nothing, 0


@dataclass
class Measured:
    """What was seen, as far as it came. Of a stream's answers, all pieces but the first, which only names a role."""

    known: Known | None = None
    traffic: Traffic | None = None  # None: there are no metrics that tell
    runs: list[Run] = field(default_factory=list)
    tokens: int = 0  # in these
    busy: list[Window] = field(default_factory=list)  # when streams were not left alone, in order
    carried: list[Carried] = field(default_factory=list)

    @property
    def piece_tokens(self) -> float:
        """Tokens in one piece of a stream."""
        return self.tokens / max(1, sum(map(len, self.runs)))


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
        measured: Measured,
    ) -> None:
        self._asker = asker
        self._effort = effort
        self._known = known
        self._say = say
        self._dice = dice
        self._draws = random.Random(dice.random())  # pictures are drawn in a thread beside the streams
        self._measured = measured
        self._over = False
        self._pause_s = max(LEAST_PAUSE_S, PAUSE_GAPS * known.gap_s)
        self._answer_tokens = _answer_tokens(known, longest)
        # How long the last picture of a rung took: a longer look finds longer gaps, so all are looked at for as long.
        self._lengths = {(PICTURE, rung): seconds for rung, seconds in enumerate(known.first_s)}

    async def run(self, until_s: float) -> None:
        """Until then, by the asker's clock, or until everything is done.

        Raises:
            ExceptionGroup: of `Stopped`.
        """
        # Streams end their answers after it.
        last_s = until_s - self._known.gap_s * self._answer_tokens / self._known.piece_tokens
        try:
            async with asyncio.timeout(max(0.0, until_s - self._asker.now())), asyncio.TaskGroup() as group:
                for number in range(STREAMS):
                    group.create_task(self._stream(number))
                await asyncio.sleep(SETTLED_S + max(self._known.first_s))
                await self._ladders(last_s)
                await self._bursts(last_s)
                self._over = True
        except TimeoutError:
            pass

    async def _stream(self, number: int) -> None:
        tokens = self._answer_tokens * (number + 1) // STREAMS  # so that not all begin anew at one time
        while not self._over:
            answer = await self._asker.ask("stream", stream_body(max(2, tokens), self._dice))
            run = answer.chunks_s[1:]
            self._measured.runs.append(run)
            self._measured.tokens += answer.output_tokens
            gaps = quiet_gaps([run], self._measured.busy)
            if len(gaps) >= TELLING_GAPS:
                self._asker.steady("a gap of a stream beside which nothing of ours was done", fmean(gaps))
            tokens = self._answer_tokens

    async def _ladders(self, last_s: float) -> None:
        ladder = self._known.ladder
        began = self._asker.now()
        until_s = began + SWEEPS_SHARE * (last_s - began)
        for sweep in range(self._effort.sweeps):
            order = [*product((PICTURE, TEXT), range(len(ladder))), (NOTHING, ladder.index(self._known.judged))]
            self._dice.shuffle(order)
            for kind, rung in order:
                if self._asker.now() > (last_s if sweep < FEWEST_SWEEPS else until_s):
                    return
                self._say(f"sweep {sweep + 1} of at most {self._effort.sweeps}")
                await self._carry(kind, sweep, rung, ladder[rung], 1)
            self._see_one_engine()

    async def _bursts(self, last_s: float) -> None:
        for number in range(self._effort.rounds):
            order = list(product((PICTURES_AT_ONCE, TEXTS_AT_ONCE), self._effort.bursts))
            self._dice.shuffle(order)
            for kind, size in order:
                if self._asker.now() > last_s:
                    return
                self._say(f"{size} at once, round {number + 1} of {self._effort.rounds}")
                await self._carry(kind, number, size, self._known.at_once, size)

    async def _carry(self, kind: str, sweep: int, rung: int, carries: Rung, times: int) -> None:
        with self._busy():
            bodies = await asyncio.to_thread(self._bodies, kind, carries, times)
        await self._asker.turn(len(bodies))
        with self._busy():
            await self._asker.page()
        await asyncio.sleep(self._pause_s)
        sent_s = first_s = self._asker.now()
        ttft_s = tokens = 0.0
        if bodies:
            with self._busy():
                answers = await self._asker.ask_at_once(kind, bodies)
            sent_s, first_s = min(each.sent_s for each in answers), max(each.tokens_s[0] for each in answers)
            ttft_s = fmean(each.waited_s for each in answers)
            tokens = fmean((each.prompt_tokens or 0) - self._known.question_tokens for each in answers)
            self._asker.steady(f"the first token of {kind} ({times} x {carries})", ttft_s, SLOWER_S)
        if kind not in IN_PLACE_OF:
            self._lengths[kind, rung] = first_s - sent_s
        end_s = max(first_s, sent_s + self._lengths.get((IN_PLACE_OF.get(kind, kind), rung), 0.0))
        await asyncio.sleep(end_s - self._asker.now())
        self._measured.carried.append(Carried(kind, sweep, rung, tokens, (sent_s, end_s), 1000 * ttft_s))

    def _bodies(self, kind: str, carries: Rung, times: int) -> list[Body]:
        if kind == NOTHING:
            return []
        if kind not in IN_PLACE_OF:
            return [picture_body(carries, 1, self._draws) for _ in range(times)]
        return [text_body(self._known.words(carries.tokens), self._draws) for _ in range(times)]

    @contextmanager
    def _busy(self) -> Iterator[None]:
        """While it lasts, streams may wait for us."""
        began = self._asker.now()
        self._measured.busy.append((began, math.inf))
        try:
            yield
        finally:
            self._measured.busy[-1] = began, self._asker.now()

    def _see_one_engine(self) -> None:
        seen = [
            stall(self._measured.runs, carried.window, self._known.gap_s)
            for carried in self._measured.carried
            if carried.kind == PICTURE
        ]
        if apart([each for each in seen if each is not None], self._known.gap_s):
            raise Stopped(SEVERAL)


def _answer_tokens(known: Known, longest: int | None) -> int:
    least, most = ANSWER_BOUNDS
    wanted = round(max(ANSWER_S, ANSWERS_WINDOWS * max(known.first_s)) / known.gap_s * known.piece_tokens)
    room = most if longest is None else longest // 2
    return max(min(least, room), min(wanted, most, room))
