"""How high a rate an arrangement bears within objectives, and how much more that is than another's.

Where both objectives hold at one rate of the ladder and not at the next, the answer lies between: there each tail is
taken to rise in a line. A rate at which ever more requests wait for their first token does not hold, however short the
waiting still is: of such a one counts how many got it there. And no rate counts that is above what the arrangement
answers when many requests come at once, which every round has as well. If all rates of the ladder hold, and that is no
more than a tenth above the highest, it is the goodput: so much further they are taken to hold. All rounds count
together, since a tail is not told by the few requests of one. How sure the figure is shows in what it would be without
each of the rounds (`jackknife_interval`), unless one of the ladder's ends decides any of these: that one would not
move.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeVar

from bench.load.answers import Answer
from bench.load.goodput import Objectives, Shares, Tails, tails
from bench.load.slopes import LEAST, Interval, jackknife_interval
from bench.serve.staircase import Round, Rung, answered_per_s, pooled

NEARLY = 1.1  # of the highest rate: what is answered at once is told no more exactly


@dataclass(frozen=True)
class Seen:
    """What decides at one rate."""

    tails: Tails
    rung: Rung

    def holds(self, objectives: Objectives) -> bool:
        """Whether the rate may go on for ever."""
        return self.tails.within(objectives) and self.rung.keeps_up


def reach(ladder: Mapping[float, Seen], objectives: Objectives) -> float:
    """The rate in requests/s up to which both objectives hold; 0 where they do not at the lowest."""
    below = 0.0
    for rate in sorted(ladder):
        if not ladder[rate].holds(objectives):
            return _between(below, rate, ladder, objectives)
        below = rate
    return below


def _between(below: float, rate: float, ladder: Mapping[float, Seen], objectives: Objectives) -> float:
    high = ladder[rate]
    if high.tails.failed:
        return below
    if not below:
        # Nothing tells where tails begin to be too long; but how many are begun in time while the rest piles up, is.
        return high.rung.begun_per_s if high.tails.within(objectives) else 0.0
    low = ladder[below]
    ends = [
        *_crossing(low.tails.ttft_ms, high.tails.ttft_ms, objectives.ttft_ms),
        *_crossing(low.tails.itl_ms, high.tails.itl_ms, objectives.itl_ms),
    ]
    reached = below + (rate - below) * min(ends, default=1.0)
    return reached if high.rung.keeps_up else max(below, min(reached, high.rung.begun_per_s))


def _crossing(low_ms: float | None, high_ms: float | None, limit_ms: float) -> Iterator[float]:
    """How far it is, as a share of the way, to where the line from low to high crosses the limit, if it does."""
    if high_ms is not None and high_ms > limit_ms:
        start_ms = low_ms or 0.0
        yield (limit_ms - start_ms) / (high_ms - start_ms)


class Bound(StrEnum):
    """What a ratio is where one of the two lies beyond its ladder."""

    NONE = ""  # both lie within
    AT_LEAST = "at least"
    AT_MOST = "at most"
    OPEN = "both hold at the highest rate"


@dataclass(frozen=True)
class Ratio:
    """One figure to another. Without an interval where one end of a ladder decides, and of fewer than three rounds."""

    value: float
    interval: Interval | None
    bound: Bound = Bound.NONE


@dataclass(frozen=True)
class _Part:
    """All rounds, or all but one."""

    ladder: Mapping[float, Seen]
    most: float  # requests/s

    def goodput(self, objectives: Objectives) -> float:
        if self._holds(objectives) and not self.is_open(objectives):
            return self.most
        return min(self.most, reach(self.ladder, objectives))

    def is_open(self, objectives: Objectives) -> bool:
        return self._holds(objectives) and self.most > NEARLY * max(self.ladder)

    def _holds(self, objectives: Objectives) -> bool:
        return all(one.holds(objectives) for one in self.ladder.values())

    def is_within(self, objectives: Objectives) -> bool:
        """Whether neither end of the ladder decides."""
        return self.goodput(objectives) > 0 and not self.is_open(objectives)


class Climb:
    """What one arrangement did with one workload, in all rounds.

    `bursts` are the answers of each round to requests that came at once. `shares` are those of all rounds, and hold
    also where one is left out.
    """

    def __init__(self, rounds: Sequence[Round], bursts: Sequence[Sequence[Answer]], shares: Shares) -> None:
        self._all = _Part(_ladder(rounds, shares), answered_per_s(bursts))
        self._without_one = [
            _Part(_ladder(_without(rounds, n), shares), answered_per_s(_without(bursts, n)))
            for n in range(len(rounds))
            if len(rounds) > 1
        ]

    def seen(self, rate: float) -> Seen:
        """At that rate, in all rounds."""
        return self._all.ladder[rate]

    @property
    def lowest(self) -> float:
        """The lowest rate that was measured."""
        return min(self._all.ladder)

    def goodput(self, objectives: Objectives) -> float:
        """See above."""
        return self._all.goodput(objectives)

    def is_open(self, objectives: Objectives) -> bool:
        """Whether the goodput may be higher than any rate that was measured."""
        return self._all.is_open(objectives)

    def is_at_once(self, objectives: Objectives) -> bool:
        """Whether the goodput is what is answered when many come at once: no rate of the ladder decides."""
        return self.goodput(objectives) == self._all.most

    def interval(self, objectives: Objectives) -> Interval | None:
        """Of the goodput; None of fewer than three rounds, and where one of the ladder's ends decides."""
        if not self._is_within(objectives):
            return None
        return over_rounds(self.goodput(objectives), self.without_one(objectives))

    def _is_within(self, objectives: Objectives) -> bool:
        """With all rounds, and without any of them."""
        return all(part.is_within(objectives) for part in (self._all, *self._without_one))

    def without_one(self, objectives: Objectives) -> list[float]:
        """The goodput without the first round, without the second, ...; where there is but one round, with that."""
        found = [part.goodput(objectives) for part in self._without_one]
        return found or [self.goodput(objectives)]

    def against(self, other: "Climb", objectives: Objectives) -> Ratio | None:
        """This one's goodput to the other's of as many rounds; None where neither keeps the objectives at any rate.

        Where one does not, the lowest rate stands for it, and the ratio is a bound.
        """
        ours, theirs = self.goodput(objectives), other.goodput(objectives)
        if not ours and not theirs:
            return None
        bound = Bound.NONE
        if self.is_open(objectives) and other.is_open(objectives):
            bound = Bound.OPEN
        elif not theirs or self.is_open(objectives):
            bound = Bound.AT_LEAST
        elif not ours or other.is_open(objectives):
            bound = Bound.AT_MOST
        value = (ours or self.lowest) / (theirs or other.lowest)
        if not (self._is_within(objectives) and other._is_within(objectives)):
            return Ratio(value, None, bound)
        pairs = zip(self.without_one(objectives), other.without_one(objectives), strict=True)
        return Ratio(value, over_rounds(value, [one / two for one, two in pairs]), bound)


def over_rounds(value: float, without_one: Sequence[float]) -> Interval | None:
    """Of what all rounds give together, from what it would be without each; None of fewer than three, and where it
    would always be the same, which noise never is: then something decides that no round moves.
    """
    tells = len(without_one) >= LEAST and len(set(without_one)) > 1
    return jackknife_interval(value, without_one) if tells else None


Each = TypeVar("Each")


def _without(rounds: Sequence[Each], number: int) -> list[Each]:
    return [*rounds[:number], *rounds[number + 1 :]]


def _ladder(rounds: Sequence[Round], shares: Shares) -> dict[float, Seen]:
    return {rate: Seen(tails(rung.answers, rung.gaps_s, shares), rung) for rate, rung in pooled(rounds).items()}
