"""The tail of bystanders' inter-token latency while pictures are computed, on two sides. Pure.

Both sides are watched for the same time: from when carriers were due until the last had its first token, on whichever
side took longer. After that nothing of them can be in the tail, and more of such time would only make it shorter.
Carriers that ran over count, for there a side loses; only failures are left out.

A stream's longest gap in that time is told as well: it depends on no share, and each block has one figure of it.
"""

import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from bench.itl import fits
from bench.itl.fits import Fit, is_enough
from bench.itl.slots import Seen
from bench.load.slopes import LEAST, Interval, jackknife_interval
from bench.percentiles import percentile, tail


def stalls_ms(one: Seen, other: Seen) -> tuple[float, float] | None:
    """Of a stream beside each of two slots: the mean of as many longest gaps as there were carriers, over all streams.

    That is what one carrier's heaviest step makes a stream wait, for each has its own. None if something failed.
    """
    if one.failure or other.failure:
        return None
    until_s = max(one.computed_s, other.computed_s)
    first, second = (_Watched(seen, until_s).longest_of(seen.slot.carriers) for seen in (one, other))
    return None if first is None or second is None else (first, second)


@dataclass(frozen=True)
class Tail:
    """Of one side. Times in ms."""

    high_ms: float  # the share of `Tails`
    longest_ms: float  # of a stream, the mean over streams and blocks
    samples: int  # gaps
    overloaded: int  # of the slots that count, those that ran over or were run into


@dataclass(frozen=True)
class Tails:
    """Of two sides, and their ratios: the first to the second."""

    one: Tail
    other: Tail
    share: float  # which both have samples enough for: 0.99, or 0.95
    interval: Interval | None  # of the ratio, from what it would be without each block; None of fewer than three
    pairs: int  # of slots that count
    lost: int  # that do not, for on one or the other something failed
    longest: Fit | None  # the ratio of longest gaps

    @property
    def ratio(self) -> float:
        """Of the values that this share of gaps does not exceed."""
        return self.one.high_ms / self.other.high_ms

    @property
    def is_quotable(self) -> bool:
        """Whether enough blocks tell it, of which few were lost."""
        return is_enough(self.pairs, self.lost, self.pairs + self.lost)


def tails(one: Sequence[Seen], other: Sequence[Seen]) -> Tails | None:
    """Of two sides' slots of one name. None if in no block both count."""
    of_other = {seen.block: seen for seen in other}
    came = [(seen, of_other[seen.block]) for seen in one if seen.block in of_other]
    pairs = [pair for pair in came if not any(seen.failure for seen in pair)]
    until_s = [max(seen.computed_s for seen in pair) for pair in pairs]
    sides = [[_Watched(pair[side], until) for pair, until in zip(pairs, until_s, strict=True)] for side in (0, 1)]
    if not pairs or not all(watched.gaps_ms for side in sides for watched in side):
        return None
    share = tail(min(sum(len(watched.gaps_ms) for watched in side) for side in sides))
    first, second = (_tail(side, share) for side in sides)
    of_block = [{watched.block: watched.longest_ms for watched in side} for side in sides]
    return Tails(
        first,
        second,
        share,
        _interval(first.high_ms / second.high_ms, sides, share),
        pairs=len(pairs),
        lost=len(came) - len(pairs),
        longest=fits.over(of_block[0], of_block[1], 2 * len(came), 2 * (len(came) - len(pairs))),
    )


def _interval(ratio: float, sides: Sequence[Sequence["_Watched"]], share: float) -> Interval | None:
    blocks = len(sides[0])
    if blocks < LEAST:
        return None
    without = [[_high_ms([*side[:at], *side[at + 1 :]], share) for side in sides] for at in range(blocks)]
    # Of logarithms, for a ratio is not negative.
    found = jackknife_interval(math.log(ratio), [math.log(first / second) for first, second in without])
    return Interval(ratio, math.exp(found.low), math.exp(found.high))


class _Watched:
    """One slot until that moment of it."""

    def __init__(self, seen: Seen, until_s: float) -> None:
        lines: dict[str, list[float]] = {}
        for gap in seen.gaps:
            if gap.began_s < until_s:
                lines.setdefault(gap.line, []).append(1000 * gap.seconds)
        self.block = seen.block
        self.is_overloaded = seen.overload is not None
        self._lines = list(lines.values())
        self.gaps_ms = [ms for line in self._lines for ms in line]
        self.longest_ms = self.longest_of(1) or 0.0

    def longest_of(self, number: int) -> float | None:
        """Of a stream, the mean of so many longest ones, in the mean over streams; None without a gap."""
        if not self._lines:
            return None
        return statistics.fmean(statistics.fmean(sorted(line)[-number:]) for line in self._lines)


def _tail(side: Sequence[_Watched], share: float) -> Tail:
    return Tail(
        _high_ms(side, share),
        statistics.fmean(watched.longest_ms for watched in side),
        sum(len(watched.gaps_ms) for watched in side),
        sum(watched.is_overloaded for watched in side),
    )


def _high_ms(side: Iterable[_Watched], share: float) -> float:
    return percentile([ms for watched in side for ms in watched.gaps_ms], share)
