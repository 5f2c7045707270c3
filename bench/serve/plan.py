"""What `chiasm bench serve` measures when it compares: arrangements, workloads, rates, rounds, objectives.

Every workload has a *ladder* of rates, given as shares of what the fastest arrangement answers when many requests come
at once. That is measured first, in the same run. A round climbs every arrangement's ladder once, for each workload.
"""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, is_dataclass

from bench.load.goodput import Objectives
from bench.load.workloads import Workload

SEED = 1
SETTLE_S = 2.0  # between two measurements: an engine polls for a second after its last step
DRAIN_S = 6.0  # about how long the last answers of a ladder take, for the estimate of the whole
LIGHT = 0.5  # rates up to this share of the capacity are a light load: an answer's time says little of queues there

DEFAULT_OBJECTIVES = Objectives(ttft_ms=5000.0, itl_ms=200.0)
TTFT_GRID_MS = (1000.0, 2000.0, 3000.0, 5000.0, 10000.0)
ITL_GRID_MS = (100.0, 150.0, 200.0, 300.0, 500.0, 1000.0, 2000.0)


@dataclass(frozen=True)
class Dose:
    """How much of one workload is measured: many requests at once, and then so many seconds at each rate."""

    burst: int  # requests
    rung_s: float


@dataclass(frozen=True)
class Amounts:
    """How much is measured of everything."""

    rungs: tuple[float, ...]  # rates, as shares of the capacity
    rounds: int
    doses: Mapping[str, Dose]  # by the workload's name
    other: Dose  # of workloads that are not named there
    settle_s: float = SETTLE_S

    def dose(self, workload: str) -> Dose:
        """Of that workload."""
        return self.doses.get(workload, self.other)


# Requests with more images come at lower rates, so they are given longer.
DEFAULT = Amounts(
    rungs=(0.25, 0.5, 0.8, 1.1),
    rounds=3,
    doses={"text": Dose(24, 4.0), "1img": Dose(12, 7.0), "2img": Dose(8, 9.0), "4img": Dose(6, 11.0)},
    other=Dose(12, 7.0),
)
FULL = Amounts(
    rungs=(0.2, 0.35, 0.5, 0.65, 0.8, 1.0, 1.2),
    rounds=5,
    doses={"text": Dose(32, 8.0), "1img": Dose(16, 14.0), "2img": Dose(12, 18.0), "4img": Dose(8, 24.0)},
    other=Dose(16, 14.0),
)
QUICK = Amounts(rungs=(0.4, 0.8), rounds=1, doses={}, other=Dose(4, 4.0))


@dataclass(frozen=True)
class Plan:
    """One comparison."""

    sides: tuple[str, ...]  # arrangements' names, or URLs
    workloads: tuple[Workload, ...]
    amounts: Amounts
    objectives: Objectives = DEFAULT_OBJECTIVES
    pace: int = 1  # how many times faster one core is than the other
    seed: int = SEED

    def settings(self) -> dict[str, object]:
        """All that decides what is measured, for the journal. What is made of it afterwards may differ."""
        return {
            "sides": self.sides,
            "workloads": [_described(workload) for workload in self.workloads],
            "rungs": self.amounts.rungs,
            "rounds": self.amounts.rounds,
            "doses": {one.name: vars(self.amounts.dose(one.name)) for one in self.workloads},
            # Engines' prefill chunks follow from it.
            "itl_ms": self.objectives.itl_ms,
            "pace": self.pace,
            "seed": self.seed,
        }

    def about_s(self, sides: int) -> float:
        """About how long it takes so many sides, engines' starts left out."""
        amounts = self.amounts
        climb_s = sum(len(amounts.rungs) * amounts.dose(one.name).rung_s + DRAIN_S for one in self.workloads)
        bursts_s = sum(2 * DRAIN_S for _ in self.workloads)
        return sides * (amounts.rounds * (climb_s + len(self.workloads) * amounts.settle_s) + bursts_s)

    def grid(self) -> list[Objectives]:
        """The objectives of the curves, with those that were asked for among them."""
        ttfts = sorted({*TTFT_GRID_MS, self.objectives.ttft_ms})
        itls = sorted({*ITL_GRID_MS, self.objectives.itl_ms})
        return [Objectives(ttft_ms, itl_ms) for ttft_ms, itl_ms in itertools.product(ttfts, itls)]


def _described(workload: Workload) -> dict[str, str]:
    """What it draws from; how it words its prompts is not among that."""
    fields: Mapping[str, object] = vars(workload) if is_dataclass(workload) else {}
    return {"name": workload.name, **{name: str(value) for name, value in fields.items() if name != "text"}}


def in_turn(sides: Sequence[str], turn: int) -> list[str]:
    """The sides in the order of that round: each begins in its turn, so that none always comes after the same one."""
    first = turn % len(sides)
    return [*sides[first:], *sides[:first]]
