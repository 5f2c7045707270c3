"""The tail of bystanders' inter-token latency while pictures are computed, on two sides. Pure.

Both sides are watched for the same time: from when carriers were due until the last had its first token, on whichever
side took longer. After that nothing of them can be in the tail, and more of such time would only make it shorter.
Carriers that ran over count, for there a side loses; only failures are left out.

A stream's longest gap in that time is told as well: it depends on no share, and each block has one figure of it.
"""

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from bench.itl import fits
from bench.itl.fits import MOST_LOST, QUOTED_FROM, Fit
from bench.itl.slots import Seen
from bench.load.slopes import LEAST
from bench.percentiles import percentile

SHARE = 0.99
ENOUGH = 299  # samples, of which one lies above the true P99 with 95 %: 1 - 0.99 ** 299


@dataclass(frozen=True)
class Tail:
    """Of one side. Times in ms."""

    p99_ms: float
    longest_ms: float  # of a stream, the mean over streams and blocks
    samples: int  # gaps
    overloaded: int  # of the slots that count, those that ran over or were run into


@dataclass(frozen=True)
class Tails:
    """Of two sides, and their ratios: the first to the second."""

    one: Tail
    other: Tail
    pairs: int  # of slots that count
    lost: int  # that do not, for on one or the other something failed
    range: tuple[float, float] | None  # of the ratio of P99s, leaving out any one block; None of fewer than three
    longest: Fit | None  # the ratio of longest gaps

    @property
    def ratio(self) -> float:
        """Of P99s."""
        return self.one.p99_ms / self.other.p99_ms

    @property
    def is_quotable(self) -> bool:
        """Whether P99 is told on both sides, in enough blocks of which few were lost."""
        samples = min(self.one.samples, self.other.samples)
        return samples >= ENOUGH and self.pairs >= QUOTED_FROM and self.lost <= MOST_LOST * (self.pairs + self.lost)


def tails(one: Sequence[Seen], other: Sequence[Seen]) -> Tails | None:
    """Of two sides' slots of one name. None if in no block both count."""
    of_other = {seen.block: seen for seen in other}
    came = [(seen, of_other[seen.block]) for seen in one if seen.block in of_other]
    pairs = [pair for pair in came if not any(seen.failure for seen in pair)]
    until_s = [max(seen.computed_s for seen in pair) for pair in pairs]
    sides = [[_Watched(pair[side], until) for pair, until in zip(pairs, until_s, strict=True)] for side in (0, 1)]
    if not pairs or not all(watched.gaps_ms for side in sides for watched in side):
        return None
    without = (
        [[_p99_ms(side[:at] + side[at + 1 :]) for side in sides] for at in range(len(pairs))]
        if len(pairs) >= LEAST
        else []
    )
    ratios = [first / second for first, second in without]
    of_block = [{watched.block: watched.longest_ms for watched in side} for side in sides]
    return Tails(
        _tail(sides[0]),
        _tail(sides[1]),
        pairs=len(pairs),
        lost=len(came) - len(pairs),
        range=(min(ratios), max(ratios)) if ratios else None,
        longest=fits.over(of_block[0], of_block[1], [seen for pair in pairs for seen in pair]),
    )


class _Watched:
    """One slot until that moment of it."""

    def __init__(self, seen: Seen, until_s: float) -> None:
        lines: dict[str, list[float]] = {}
        for gap in seen.gaps:
            if gap.began_s < until_s:
                lines.setdefault(gap.line, []).append(1000 * gap.seconds)
        self.block = seen.block
        self.is_overloaded = seen.overload is not None
        self.gaps_ms = [ms for line in lines.values() for ms in line]
        self.longest_ms = statistics.fmean(map(max, lines.values())) if lines else 0.0


def _tail(side: Sequence[_Watched]) -> Tail:
    return Tail(
        _p99_ms(side),
        statistics.fmean(watched.longest_ms for watched in side),
        sum(len(watched.gaps_ms) for watched in side),
        sum(watched.is_overloaded for watched in side),
    )


def _p99_ms(side: Iterable[_Watched]) -> float:
    return percentile([ms for watched in side for ms in watched.gaps_ms], SHARE)
