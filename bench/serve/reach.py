"""How high a rate an arrangement bears within objectives, and how much more that is than another's.

Where both objectives hold at one rate of the ladder and not at the next, the answer lies between: there each tail is
taken to rise in a line. All rounds count together, since a tail is not told by the few requests of one. How sure the
figure is shows in what it would be without any one of the rounds.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from bench.load.answers import Answer
from bench.load.goodput import Objectives, Tails, share_of, tails
from bench.percentiles import named

Round = Mapping[float, Sequence[Answer]]
"""Rate in requests/s -> what was answered there."""


def together(rounds: Sequence[Round]) -> dict[float, list[Answer]]:
    """The answers of all rounds, by rate, the lowest first."""
    return {rate: [answer for each in rounds for answer in each[rate]] for rate in sorted(rounds[0])}


def reach(ladder: Mapping[float, Tails], objectives: Objectives) -> float:
    """Goodput in requests/s: the rate up to which both hold; 0 where they do not at the lowest."""
    below = 0.0
    for rate in sorted(ladder):
        if not ladder[rate].within(objectives):
            return _between(below, rate, ladder, objectives) if below else 0.0
        below = rate
    return below


def _between(below: float, rate: float, ladder: Mapping[float, Tails], objectives: Objectives) -> float:
    low, high = ladder[below], ladder[rate]
    if high.failed:
        return below
    ends = [
        *_crossing(low.ttft_ms, high.ttft_ms, objectives.ttft_ms),
        *_crossing(low.itl_ms, high.itl_ms, objectives.itl_ms),
    ]
    return below + (rate - below) * min(ends, default=0.0)


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
    """One goodput to another. `least` and `most` are without any one round; equal to `value` where there is but one."""

    value: float
    least: float
    most: float
    bound: Bound


class Climb:
    """What one arrangement did with one workload, in all rounds."""

    def __init__(self, rounds: Sequence[Round]) -> None:
        share = share_of(together(rounds).values())  # of all rounds also where one is left out
        self.percentile = named(share)
        self._all = _ladder(rounds, share)
        self._without_one = [
            _ladder([*rounds[:n], *rounds[n + 1 :]], share) for n in range(len(rounds)) if len(rounds) > 1
        ]

    def tails(self, rate: float) -> Tails:
        """At that rate, in all rounds."""
        return self._all[rate]

    @property
    def lowest(self) -> float:
        """The lowest rate that was measured."""
        return min(self._all)

    def goodput(self, objectives: Objectives) -> float:
        """See `reach`."""
        return reach(self._all, objectives)

    def holds_at_all(self, objectives: Objectives) -> bool:
        """Whether the goodput may be higher than any rate that was measured."""
        return self.goodput(objectives) == max(self._all)

    def without_one(self, objectives: Objectives) -> list[float]:
        """The goodput without the first round, without the second, ...; where there is but one round, with that."""
        return [reach(ladder, objectives) for ladder in self._without_one] or [self.goodput(objectives)]

    def against(self, other: "Climb", objectives: Objectives) -> Ratio | None:
        """This one's goodput to the other's; None where neither keeps the objectives even at the lowest rate.

        Where one does not, the lowest rate stands for it, and the ratio is a bound.
        """
        ours, theirs = self.goodput(objectives), other.goodput(objectives)
        if not ours and not theirs:
            return None
        pairs = zip(self.without_one(objectives), other.without_one(objectives), strict=True)
        others = [(one or self.lowest) / (two or other.lowest) for one, two in pairs]
        bound = Bound.NONE
        if self.holds_at_all(objectives) and other.holds_at_all(objectives):
            bound = Bound.OPEN
        elif not theirs or self.holds_at_all(objectives):
            bound = Bound.AT_LEAST
        elif not ours or other.holds_at_all(objectives):
            bound = Bound.AT_MOST
        return Ratio((ours or self.lowest) / (theirs or other.lowest), min(others), max(others), bound)


def _ladder(rounds: Sequence[Round], share: float) -> dict[float, Tails]:
    return {rate: tails(answers, share) for rate, answers in together(rounds).items()}
