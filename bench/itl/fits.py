"""What slots tell together: slopes over prompt tokens, their ratios, growth with concurrency, tails in bursts. Pure.

Each block is fitted by itself, and intervals are over the blocks' figures: see `bench.load.slopes`. Slots that have a
fault are in none of this.
"""

import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from bench.itl.plan import Kind
from bench.itl.slots import Seen
from bench.load.slopes import LEAST, Interval, Undetermined, block_slopes, growth, mean_interval, ratio
from bench.percentiles import named, percentile, tail

Measure = Callable[[Seen], float | None]
"""A figure of one slot, in ms; None where it has none."""


def mean_itl_ms(one: Seen) -> float:
    """The bystanders'."""
    return 1000 * one.mean_s


def stall_ms(one: Seen) -> float | None:
    """Of each bystander, by one carrier, or by one of a burst."""
    return None if one.stall_s is None else 1000 * one.stall_s / one.slot.carriers


def carrier_tpot_ms(one: Seen) -> float | None:
    """The carriers' mean time per output token."""
    found = [tpot_s for answer in one.carriers if (tpot_s := answer.tpot_s) is not None]
    return 1000 * statistics.fmean(found) if found else None


@dataclass(frozen=True)
class Fit:
    """A slope in ms per 1,000 tokens, or a ratio of two: of each block that tells, and over all of them.

    Without an interval there are fewer than three blocks, or (a ratio) what is divided by may be 0.
    """

    blocks: Mapping[int, float]
    value: float
    interval: Interval | None


def slope(slots: Iterable[Seen], measure: Measure) -> Fit | None:
    """Of that figure over the tokens that carriers bring. None if no block has two sizes."""
    points: dict[int, list[tuple[float, float]]] = {}
    for one in slots:
        if one.fault is None and (figure := measure(one)) is not None:
            points.setdefault(one.block, []).append((one.tokens / 1000, figure))
    told = {block: found for block, found in sorted(points.items()) if len({x for x, _ in found}) > 1}
    if not told:
        return None
    blocks = dict(zip(told, block_slopes(list(told.values())), strict=True))
    values = list(blocks.values())
    return Fit(blocks, statistics.fmean(values), mean_interval(values) if len(values) >= LEAST else None)


def over(a: Fit | None, b: Fit | None) -> Fit | None:
    """How many times the second slope the first is; None if either is missing, or the second may be 0."""
    both = sorted(a.blocks.keys() & b.blocks.keys()) if a is not None and b is not None else []
    if a is None or b is None or not both:
        return None
    above, below = ([fit.blocks[block] for block in both] for fit in (a, b))
    blocks = {block: x / y for block, x, y in zip(both, above, below, strict=True) if y}
    if len(both) < LEAST:
        return Fit(blocks, sum(above) / sum(below), None) if sum(below) else None
    try:
        found = ratio(above, below)
    except Undetermined:
        return None
    return Fit(blocks, found.value, found)


def of_kind(slots: Iterable[Seen], side: str, drive: str, kind: Kind) -> list[Seen]:
    """Single carriers of that kind, and the slot without a load that they are held against."""
    return [
        one
        for one in slots
        if (one.side, one.drive.name, one.slot.carriers) == (side, drive, 1)
        and (one.slot.kind is kind or not one.slot.load.pictures)
    ]


def bursts(slots: Iterable[Seen], side: str, kind: Kind = Kind.LIVE) -> list[Seen]:
    """Of carriers of that kind, and those without a load that they are held against."""
    return [
        one
        for one in slots
        if one.side == side and one.slot.carriers > 1 and (one.slot.kind is kind or not one.slot.load.pictures)
    ]


@dataclass(frozen=True)
class Grown:
    """How the stall by 1,000 tokens grows with the number of bystanders."""

    verdict: str  # flat, linear, super-linear or undetermined
    why: str
    stalls_ms: Mapping[int, float]  # by number of bystanders, the mean over blocks


def grown(slots: Sequence[Seen], side: str) -> Grown | None:
    """Of single carriers of the load that came beside every number of bystanders; None of fewer than three."""
    drives = {one.drive.name: one.drive for one in slots}
    if len({drive.streams for drive in drives.values()}) < LEAST:
        return None
    common = set.intersection(*({slot.load for slot in drive.slots} for drive in drives.values()))
    fits = {
        drive.streams: slope((s for s in of_kind(slots, side, name, Kind.LIVE) if s.slot.load in common), stall_ms)
        for name, drive in drives.items()
    }
    told = {streams: fit for streams, fit in sorted(fits.items()) if fit is not None}
    whole = set.intersection(*(set(fit.blocks) for fit in told.values())) if len(told) == len(fits) else set()
    stalls = {streams: fit.value for streams, fit in told.items()}
    try:
        blocks = [[(float(streams), fit.blocks[block]) for streams, fit in told.items()] for block in sorted(whole)]
        verdict, why = growth(blocks)
    except (Undetermined, ValueError) as error:
        return Grown("undetermined", str(error), stalls)
    return Grown(verdict, why, stalls)


@dataclass(frozen=True)
class Tails:
    """A tail of bystanders' inter-token latency on two sides, their ratio, and how far one block moves that."""

    percentile: str  # p99; p95 of few samples
    ms: tuple[float, float]
    ratio: float
    range: tuple[float, float] | None  # of the ratio, leaving out any one block; None with fewer than three


def tails(one: Sequence[Seen], other: Sequence[Seen]) -> Tails | None:
    """Of two sides' slots, all gaps of each together. None if either has none that count."""
    gaps = [_by_block(side) for side in (one, other)]
    blocks = sorted(gaps[0].keys() & gaps[1].keys())
    if not blocks:
        return None
    share = tail(min(sum(len(side[block]) for block in blocks) for side in gaps))

    def without(left_out: int | None) -> tuple[float, float]:
        kept = [[gap for block in blocks if block != left_out for gap in side[block]] for side in gaps]
        return 1000 * percentile(kept[0], share), 1000 * percentile(kept[1], share)

    ms = without(None)
    others = [first / second for first, second in map(without, blocks)] if len(blocks) >= LEAST else []
    return Tails(named(share), ms, ms[0] / ms[1], (min(others), max(others)) if others else None)


def _by_block(slots: Sequence[Seen]) -> dict[int, list[float]]:
    gaps: dict[int, list[float]] = {}
    for one in slots:
        if one.fault is None:
            gaps.setdefault(one.block, []).extend(one.gaps_s)
    return gaps
