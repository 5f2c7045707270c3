"""What streams suffer while something else is computed: how far they fall behind, and their gaps. Pure.

Times are seconds of one clock. A stream is a sequence of runs, each the times at which the pieces of one answer came.
While `n` pieces came in a window that lasts from one piece to another, the stream fell behind by the window's length
less `n` usual gaps. That is all the work that was done for others, however it was cut into steps; the longest gap is
what of it came in one piece.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import fmean

Run = Sequence[float]
Window = tuple[float, float]

AT_ONCE_S = 1e-4  # pieces that come closer together were held back, and let go at once ...
AT_ONCE = 0.05  # ... or in so small a part of the mean gap
HELD_SHARE = 0.2  # of the gaps; some pairs arrive together for reasons of the network's
FELT_GAPS = 3  # usual gaps that a stream falls behind: less is noise
UNFELT = 0.25  # of what the stream that is most behind has lost
FEWEST_FELT = 3  # stalls that tell whether all streams share them


@dataclass(frozen=True)
class Stall:
    """Of each stream that can tell, in ms."""

    behind: tuple[float, ...]
    gaps: tuple[tuple[float, ...], ...]

    @property
    def behind_ms(self) -> float:
        """The mean of the streams: one engine makes all of them wait."""
        return fmean(self.behind)

    @property
    def longest_ms(self) -> float:
        """The longest gap of any stream."""
        return max(gap for each in self.gaps for gap in each)


def quiet_gaps(runs: Sequence[Run], busy: Sequence[Window]) -> list[float]:
    """All gaps that touch none of the busy windows, which must be in order."""
    begins, ends = [window[0] for window in busy], [window[1] for window in busy]
    return [
        later - earlier
        for run in runs
        for earlier, later in pairwise(run)
        # The windows that begin before the gap ends are those that end before it begins.
        if bisect_left(begins, later) == bisect_right(ends, earlier)
    ]


def held_back(gaps: Sequence[float]) -> bool:
    """Whether something between server and client lets pieces go several at a time."""
    at_once_s = max(AT_ONCE_S, AT_ONCE * fmean(gaps)) if gaps else 0.0
    return sum(gap < at_once_s for gap in gaps) > HELD_SHARE * len(gaps)


def stall(runs: Sequence[Run], window: Window, gap_s: float) -> Stall | None:
    """In this window, from the last piece before it to the first after it; None: no run was there all the while."""
    gaps = [tuple(1000 * (later - earlier) for earlier, later in pairwise(pieces)) for pieces in _around(runs, window)]
    return Stall(tuple(sum(each) - 1000 * gap_s * len(each) for each in gaps), tuple(gaps)) if gaps else None


def _around(runs: Sequence[Run], window: Window) -> Iterator[Run]:
    begin, end = window
    for run in runs:
        first, last = bisect_right(run, begin) - 1, bisect_left(run, end)
        if first >= 0 and last < len(run) and first < last:
            yield run[first : last + 1]


def apart(stalls: Sequence[Stall], gap_s: float) -> bool:
    """Whether the streams are on several engines: where one fell behind, another noticed nothing, more often than
    not.
    """
    felt = [each.behind for each in stalls if len(each.behind) > 1 and max(each.behind) > FELT_GAPS * 1000 * gap_s]
    return len(felt) >= FEWEST_FELT and sum(min(each) < UNFELT * max(each) for each in felt) > len(felt) / 2
