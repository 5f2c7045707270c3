"""How high a rate an arrangement bears within objectives, and how much more that is than another's.

Where both objectives hold at one rate of the ladder and not at the next, the answer lies between: there each tail is
taken to rise in a line. A rate at which ever more requests wait for their first token does not hold, however short the
waiting still is: of such a one counts how many got it there. And no rate counts that is above what the arrangement
answers when many requests come at once. All rounds count together, since a tail is not told by the few requests of one.
How sure the figure is shows in what it would be without each of the rounds (`jackknife_interval`).
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from bench.load.goodput import Objectives, Shares, Tails, shares_of, tails
from bench.load.slopes import LEAST, Interval, jackknife_interval
from bench.serve.staircase import Round, Rung, pooled


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
    """One figure to another. Of fewer than three rounds there is no interval."""

    value: float
    interval: Interval | None
    bound: Bound = Bound.NONE


class Climb:
    """What one arrangement did with one workload, in all rounds. `most` is what it answers when all come at once."""

    def __init__(self, rounds: Sequence[Round], most: float = math.inf) -> None:
        self.pooled = pooled(rounds)
        self.most = most
        # Those of all rounds hold also where one is left out.
        self.shares = shares_of(rung.answers for rung in self.pooled.values())
        self._all = _ladder(rounds, self.shares)
        others = [[*rounds[:n], *rounds[n + 1 :]] for n in range(len(rounds)) if len(rounds) > 1]
        self._without_one = [_ladder(each, self.shares) for each in others]

    def seen(self, rate: float) -> Seen:
        """At that rate, in all rounds."""
        return self._all[rate]

    @property
    def lowest(self) -> float:
        """The lowest rate that was measured."""
        return min(self._all)

    def goodput(self, objectives: Objectives) -> float:
        """See above."""
        return min(self.most, reach(self._all, objectives))

    def is_open(self, objectives: Objectives) -> bool:
        """Whether the goodput may be higher than any rate that was measured."""
        return self.goodput(objectives) == max(self._all) and all(one.holds(objectives) for one in self._all.values())

    def interval(self, objectives: Objectives) -> Interval | None:
        """Of the goodput; None of fewer than three rounds."""
        return over_rounds(self.goodput(objectives), self.without_one(objectives))

    def without_one(self, objectives: Objectives) -> list[float]:
        """The goodput without the first round, without the second, ...; where there is but one round, with that."""
        found = [min(self.most, reach(ladder, objectives)) for ladder in self._without_one]
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
        pairs = zip(self.without_one(objectives), other.without_one(objectives), strict=True)
        others = [(one or self.lowest) / (two or other.lowest) for one, two in pairs]
        value = (ours or self.lowest) / (theirs or other.lowest)
        return Ratio(value, over_rounds(value, others), bound)


def over_rounds(value: float, without_one: Sequence[float]) -> Interval | None:
    """Of what all rounds give together, from what it would be without each; None of fewer than three."""
    return jackknife_interval(value, without_one) if len(without_one) >= LEAST else None


def _ladder(rounds: Sequence[Round], shares: Shares) -> dict[float, Seen]:
    return {rate: Seen(tails(rung.answers, shares), rung) for rate, rung in pooled(rounds).items()}
