"""What `chiasm bench serve` measures when it compares: arrangements, workloads, rates, rounds, objectives.

Every workload has a *ladder* of rates, given as shares of what the fastest arrangement of the first group answers when
many requests come at once. That is measured first, in the same run, once everybody has answered such a burst: the
first one is slower. A round has a burst for every arrangement and workload, and climbs the ladder once, up to more than
what the fastest has answered, so that its end is seen.

A rate has to last for several times the objective of the time to first token. On a shorter rung, overload ends before
anybody has waited for so long, and it would pass.
"""

import itertools
import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, is_dataclass, replace

from bench.load.goodput import Objectives
from bench.load.workloads import Workload

SEED = 1
SETTLE_S = 2.0  # between two measurements: an engine polls for a second after its last step
DRAIN_S = 8.0  # about how long the last answers of a ladder take, for the estimate
START_MINUTES = 5  # of a group of engines, their calibration included, for the estimate
RUNG_TO_TTFT = 3.0  # how many times its objective a rate lasts

CHUNK_ITL_MS = 200.0  # that every calibrated prefill chunk is for, whatever objective figures are told at
# Fixed before anything was measured. A chunk is calibrated so that the median step with one in it takes CHUNK_ITL_MS,
# so P99 of the gaps, which is such a step with more beside it, cannot be held to that very figure by anybody.
DEFAULT_OBJECTIVES = Objectives(ttft_ms=5000.0, itl_ms=600.0)
# Four images are four times the work before the first token. Chosen after a run in which nobody kept 5 s at any rate.
OWN_TTFT_MS = {"4img": 10000.0}
TTFT_GRID_MS = (1000.0, 2000.0, 3000.0, 5000.0, 10000.0)
ITL_GRID_MS = (100.0, 200.0, 300.0, 450.0, 600.0, 1000.0, 2000.0)


@dataclass(frozen=True)
class Dose:
    """How much of one workload is measured: so many requests at once, and then these rates."""

    burst: int  # requests: twice the slots of all engines, or as many as keep them busy for twenty seconds
    rungs: tuple[float, ...]  # as shares of the capacity


@dataclass(frozen=True)
class Amounts:
    """How much is measured of everything."""

    rounds: int
    doses: Mapping[str, Dose]  # by the workload's name
    other: Dose  # of workloads that are not named there
    rung_s: float | None = None  # None: `RUNG_TO_TTFT` times the objective
    pooled: int = 20  # requests of a rate in all rounds together, at least: what P95 takes
    settle_s: float = SETTLE_S
    at_once_s: float = 22.0  # about how long a burst takes

    def dose(self, workload: str) -> Dose:
        """Of that workload."""
        return self.doses.get(workload, self.other)

    @property
    def least(self) -> int:
        """Requests of a rate in one round, at least."""
        return math.ceil(self.pooled / self.rounds)


DEFAULT = Amounts(
    rounds=5,
    doses={"text": Dose(40, (0.5, 0.8, 1.05)), "1img": Dose(20, (0.4, 0.7, 1.05)), "4img": Dose(8, (0.5, 0.8, 1.05))},
    other=Dose(16, (0.4, 0.7, 1.05)),
)
FULL = Amounts(
    rounds=5,
    doses={"text": Dose(48, (0.35, 0.6, 0.8, 1.05)), "4img": Dose(10, (0.4, 0.6, 0.8, 1.05))},
    other=Dose(20, (0.35, 0.6, 0.8, 1.05)),
)
QUICK = Amounts(rounds=1, doses={}, other=Dose(4, (0.4, 0.8)), rung_s=3.0, pooled=1, at_once_s=5.0)


@dataclass(frozen=True)
class Plan:
    """One comparison."""

    sides: tuple[str, ...]  # arrangements' names, or URLs
    workloads: tuple[Workload, ...]
    amounts: Amounts
    objectives: Objectives = DEFAULT_OBJECTIVES
    own_ttft_ms: Mapping[str, float] = field(default_factory=dict)  # of workloads, by name, that have another one
    bursts: int = 1  # requests that come at one moment
    pace: int = 1  # how many times faster one core is than the other
    seed: int = SEED

    def settings(self) -> dict[str, object]:
        """All that decides what is measured, for the journal. What is made of it afterwards may differ."""
        return {
            "sides": self.sides,
            "workloads": [_described(workload) for workload in self.workloads],
            "rounds": self.amounts.rounds,
            "least": self.amounts.least,
            "rung_s": self.rung_s,
            "doses": {one.name: vars(self.amounts.dose(one.name)) for one in self.workloads},
            "bursts": self.bursts,
            "chunk_itl_ms": CHUNK_ITL_MS,
            "pace": self.pace,
            "seed": self.seed,
        }

    @property
    def rung_s(self) -> float:
        """How long a rate lasts at least."""
        return RUNG_TO_TTFT * self.objectives.ttft_ms / 1000 if self.amounts.rung_s is None else self.amounts.rung_s

    def about_minutes(self, groups: int, sides: int) -> float:
        """About how long it takes so many sides in so many groups, engines' starts included. Of the first side, which
        is in all groups, only bursts are measured but in its first.
        """
        climbing = sides - max(0, groups - 1)
        climb_s = self.amounts.rounds * sum(self._climb_s(self.amounts.dose(one.name)) for one in self.workloads)
        burst_s = self.amounts.rounds * (self.amounts.at_once_s + self.amounts.settle_s)
        bursts_s = len(self.workloads) * (self.amounts.at_once_s + burst_s)  # the first one warms up
        return (climbing * climb_s + sides * bursts_s) / 60 + START_MINUTES * groups

    def _climb_s(self, dose: Dose) -> float:
        """One side's ladder of one workload. Slow ones take longer than the shortest time at their lowest rate."""
        per_s = dose.burst / self.amounts.at_once_s
        rungs_s = sum(max(self.rung_s, self.amounts.least / (share * per_s)) for share in dose.rungs)
        return rungs_s + DRAIN_S + self.amounts.settle_s

    def objectives_for(self, workload: str) -> Objectives:
        """At which figures of that workload are quoted."""
        return replace(self.objectives, ttft_ms=self.own_ttft_ms.get(workload, self.objectives.ttft_ms))

    def grid(self, workload: str) -> list[Objectives]:
        """The objectives of that workload's curves, with those at which it is quoted among them.

        Others of the time to first token go as far as a rung is long enough to break them.
        """
        quoted = self.objectives_for(workload)
        most_ms = 1000 * self.rung_s / RUNG_TO_TTFT
        ttfts = sorted({*(ttft_ms for ttft_ms in TTFT_GRID_MS if ttft_ms <= most_ms), quoted.ttft_ms})
        itls = sorted({*ITL_GRID_MS, quoted.itl_ms})
        return [Objectives(ttft_ms, itl_ms) for ttft_ms, itl_ms in itertools.product(ttfts, itls)]


def _described(workload: Workload) -> dict[str, str]:
    """What it draws from; how it words its prompts is not among that."""
    fields: Mapping[str, object] = vars(workload) if is_dataclass(workload) else {}
    return {"name": workload.name, **{name: str(value) for name, value in fields.items() if name != "text"}}


def in_turn(sides: Sequence[str], turn: int, seed: object) -> list[str]:
    """The sides in the order of that round, drawn: two rounds, each the other's reverse, from one draw.

    So none always comes after the same one, and what drifts evenly meets all alike.
    """
    order = list(sides)
    random.Random(f"{seed} order {turn // 2}").shuffle(order)
    return order if turn % 2 == 0 else order[::-1]
