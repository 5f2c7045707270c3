"""What slots tell together: slopes over prompt tokens, their ratios, growth with concurrency. Pure.

Each block is fitted by itself, and intervals are over the blocks' figures: see `bench.load.slopes`. Slots that have a
fault, or no such figure, are in none of this, and how many these are is told, for they are not just any: heavy loads
overload first.
"""

import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from bench.itl.plan import Kind, Load
from bench.itl.slots import Seen
from bench.load.slopes import LEAST, Interval, Undetermined, block_slopes, mean_interval, power_growth, ratio

UNDETERMINED = "undetermined"  # verdict where no growth is told
QUOTED_FROM = 5  # blocks
MOST_LOST = 0.1  # of the slots

Measure = Callable[[Seen], float | None]
"""A figure of one slot, in ms; None where it has none."""


def mean_itl_ms(one: Seen) -> float:
    """The bystanders'."""
    return 1000 * one.mean_s


def stall_ms(one: Seen) -> float | None:
    """What is added to the inter-token latencies of each bystander, summed, by all carriers of the slot."""
    return None if one.stall_s is None else 1000 * one.stall_s


def carrier_tpot_ms(one: Seen) -> float | None:
    """The carriers' mean time per output token."""
    found = [tpot_s for answer in one.carriers if (tpot_s := answer.tpot_s) is not None]
    return 1000 * statistics.fmean(found) if found else None


def carrier_ttft_ms(one: Seen) -> float:
    """The carriers' median time to first token."""
    return 1000 * statistics.median(answer.ttft_s for answer in one.carriers)


@dataclass(frozen=True)
class Fit:
    """A slope in ms per 1,000 tokens, or a ratio of two figures: of each block that tells, and over all of them.

    Without an interval there are fewer than three blocks. `lost` of the `slots` that were to tell do not.
    """

    blocks: Mapping[int, float]
    value: float
    interval: Interval | None
    slots: int
    lost: int

    @property
    def is_quotable(self) -> bool:
        """Whether enough has been measured, and little enough of it lost, to quote it alone."""
        return is_enough(len(self.blocks), self.lost, self.slots)


def is_enough(blocks: int, lost: int, slots: int) -> bool:
    """Whether so many blocks tell something, if so many of their slots were lost."""
    return blocks >= QUOTED_FROM and lost <= MOST_LOST * slots


def slope(slots: Sequence[Seen], measure: Measure) -> Fit | None:
    """Of that figure over the tokens that carriers bring, all of a burst together. None if no block has two sizes."""
    points: dict[int, list[tuple[float, float]]] = {}
    for one in slots:
        if one.fault is None and (figure := measure(one)) is not None:
            points.setdefault(one.block, []).append((one.brought / 1000, figure))
    told = {block: found for block, found in sorted(points.items()) if len({x for x, _ in found}) > 1}
    if not told:
        return None
    blocks = dict(zip(told, block_slopes(list(told.values())), strict=True))
    values = list(blocks.values())
    interval = mean_interval(values) if len(values) >= LEAST else None
    return Fit(blocks, statistics.fmean(values), interval, len(slots), lost_in(slots, measure))


def slope_to_text(slots: Sequence[Seen], side: str, kind: Kind, measure: Measure) -> Fit | None:
    """How many times the slope of text that of this kind is; None where that is not told.

    In each block both slopes are over the same loads: those that came as both, and have no fault as either. Else one
    that was overloaded as pictures would still be among the text.
    """
    both = [of_kind(slots, side, each) for each in (kind, Kind.TEXT)]
    common = set.intersection(*({one.slot.load for one in found} for found in both))
    planned = [[one for one in found if one.slot.load in common] for found in both]
    faults = {(one.block, one.slot.load) for found in planned for one in found if not _tells(one, measure)}
    image, text = ([one for one in found if (one.block, one.slot.load) not in faults] for found in planned)
    every = list({id(one): one for found in planned for one in found}.values())  # the slot without a load is in both
    above, below = slope(image, measure), slope(text, measure)
    if above is None or below is None:
        return None
    return over(above.blocks, below.blocks, len(every), lost_in(every, measure))


def of_each(slots: Iterable[Seen], measure: Measure) -> dict[int, float]:
    """That figure by block, of slots of which each block has one."""
    return {one.block: ms for one in slots if one.fault is None and (ms := measure(one)) is not None}


def over(above: Mapping[int, float], below: Mapping[int, float], slots: int, lost: int) -> Fit | None:
    """How many times the second the first is, by block, as so many slots tell; None if the second may be 0."""
    both = sorted(above.keys() & below.keys())
    blocks = {block: above[block] / below[block] for block in both if below[block]}
    if not blocks:
        return None
    over_all, under_all = [above[block] for block in both], [below[block] for block in both]
    if len(both) < LEAST:
        value = sum(over_all) / sum(under_all) if sum(under_all) else None
        return None if value is None else Fit(blocks, value, None, slots, lost)
    try:
        found = ratio(over_all, under_all)
    except Undetermined:
        return None
    return Fit(blocks, found.value, found, slots, lost)


def of_kind(slots: Iterable[Seen], side: str, kind: Kind) -> list[Seen]:
    """Single carriers of that kind, and the slot without a load that they are held against."""
    mine = [one for one in slots if one.side == side]
    drives = {one.drive.name for one in mine if one.slot.carriers == 1 and not one.slot.load.pictures}
    return [
        one
        for one in mine
        if one.drive.name in drives and one.slot.carriers == 1 and (one.slot.kind is kind or not one.slot.load.pictures)
    ]


def bursts(slots: Iterable[Seen], side: str) -> list[Seen]:
    """The largest ones of new pictures, and those as large without a load that they are held against."""
    live = [one for one in slots if one.side == side and one.slot.kind is Kind.LIVE]
    size = max((one.slot.carriers for one in live), default=1)
    return [one for one in live if one.slot.carriers == size] if size > 1 else []


@dataclass(frozen=True)
class Grown:
    """How the stall of bystanders grows with the number of carriers that come at once, each with the same load."""

    load: Load
    verdict: str  # of `Growth`, or `UNDETERMINED`
    why: str
    stalls_ms: Mapping[int, float]  # by all of them together, by their number: the mean over blocks
    blocks: int  # in which no number is missing
    slots: int
    lost: int  # of these slots, that do not tell: where most are of the largest number, growth is not what is seen


def grown(slots: Iterable[Seen], side: str) -> Grown | None:
    """Of a load of new pictures that came in three numbers or more in one drive; None if there is none."""
    numbers: dict[tuple[str, Load], dict[int, list[Seen]]] = {}
    for one in slots:
        if one.side == side and one.slot.kind is Kind.LIVE and one.slot.load.pictures:
            of_load = numbers.setdefault((one.drive.name, one.slot.load), {})
            of_load.setdefault(one.slot.carriers, []).append(one)
    many = next((key for key, found in numbers.items() if len(found) >= LEAST), None)
    if many is None:
        return None
    stalls = {carriers: of_each(found, stall_ms) for carriers, found in sorted(numbers[many].items())}
    whole = sorted(set.intersection(*(set(found) for found in stalls.values())))
    means = {carriers: statistics.fmean(found.values()) for carriers, found in stalls.items() if found}
    every = [one for found in numbers[many].values() for one in found]
    missing = lost_in(every, stall_ms)
    try:
        if not is_enough(len(whole), missing, len(every)):
            raise Undetermined(f"{len(whole)} whole blocks, and {missing} of {len(every)} slots lost, do not tell.")
        verdict, why = power_growth(
            [[(float(carriers), found[block]) for carriers, found in stalls.items()] for block in whole]
        )
    except (Undetermined, ValueError) as error:
        return Grown(many[1], UNDETERMINED, str(error), means, len(whole), len(every), missing)
    return Grown(many[1], verdict, why, means, len(whole), len(every), missing)


def lost_in(slots: Iterable[Seen], measure: Measure) -> int:
    """How many of them do not tell that figure."""
    return sum(not _tells(one, measure) for one in slots)


def _tells(one: Seen, measure: Measure) -> bool:
    return one.fault is None and measure(one) is not None
