"""What streams suffer while something else is computed: how far they fall behind, and their longest gap. Pure.

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


@dataclass(frozen=True)
class Stall:
    """Means over the streams that can tell, in ms; and all gaps of these."""

    behind_ms: float
    longest_ms: float
    gaps_ms: tuple[float, ...]


def usual_gap_s(runs: Sequence[Run], busy: Sequence[Window]) -> float | None:
    """The mean of all gaps that touch none of the busy windows, which must be in order; None: there is no such gap."""
    begins, ends = [window[0] for window in busy], [window[1] for window in busy]
    gaps = [
        later - earlier
        for run in runs
        for earlier, later in pairwise(run)
        # The windows that begin before the gap ends are those that end before it begins.
        if bisect_left(begins, later) == bisect_right(ends, earlier)
    ]
    return fmean(gaps) if gaps else None


def stall(runs: Sequence[Run], window: Window, gap_s: float) -> Stall | None:
    """In this window, from the last piece before it to the first after it; None: no run was there all the while."""
    seen = list(_around(runs, window))
    if not seen:
        return None
    gaps = [[1000 * (later - earlier) for earlier, later in pairwise(pieces)] for pieces in seen]
    return Stall(
        behind_ms=fmean(sum(each) - 1000 * gap_s * len(each) for each in gaps),
        longest_ms=fmean(max(each) for each in gaps),
        gaps_ms=tuple(gap for each in gaps for gap in each),
    )


def _around(runs: Sequence[Run], window: Window) -> Iterator[Run]:
    begin, end = window
    for run in runs:
        first, last = bisect_right(run, begin) - 1, bisect_left(run, end)
        if first >= 0 and last < len(run) and first < last:
            yield run[first : last + 1]
