"""Several pictures at once: how what streams suffer grows with their number. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

from bench.diagnosis.findings import Point
from bench.diagnosis.plan import FEWEST_SWEEPS
from bench.diagnosis.sweeping import BURST
from bench.load.slopes import Growth, Undetermined, growth


@dataclass(frozen=True)
class AtOnce:
    """So many pictures at once; means over the rounds, in ms."""

    pictures: int
    behind_ms: float
    longest_ms: float
    ttft_ms: float


@dataclass(frozen=True)
class Grown:
    """How one figure grows; `growth` is None where the measurements do not tell."""

    growth: Growth | None
    why: str


@dataclass(frozen=True)
class Together:
    """What came of whole rounds."""

    rounds: int
    rows: tuple[AtOnce, ...]
    behind: Grown
    longest: Grown


def together(seen: Sequence[Point], bursts: Sequence[int]) -> Together | None:
    """None: there was no time for three whole rounds."""
    rounds: dict[int, dict[int, Point]] = {}
    for point in seen:
        if point.carried.kind == BURST:
            rounds.setdefault(point.carried.sweep, {})[point.carried.rung] = point
    whole = [each for each in rounds.values() if len(each) == len(bursts)]
    if len(whole) < FEWEST_SWEEPS:
        return None
    rows = tuple(
        AtOnce(
            size,
            fmean(each[size].stall.behind_ms for each in whole),
            fmean(each[size].stall.longest_ms for each in whole),
            fmean(each[size].carried.ttft_ms for each in whole),
        )
        for size in sorted(bursts)
    )
    return Together(
        rounds=len(whole),
        rows=rows,
        behind=_grown([[(size, each[size].stall.behind_ms) for size in sorted(bursts)] for each in whole]),
        longest=_grown([[(size, each[size].stall.longest_ms) for size in sorted(bursts)] for each in whole]),
    )


def _grown(blocks: Sequence[Sequence[tuple[float, float]]]) -> Grown:
    try:
        return Grown(*growth(blocks))
    except Undetermined as error:
        return Grown(None, str(error))
