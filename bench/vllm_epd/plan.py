"""What is asked of both sides: how many pictures a request has, and how fast requests come.

Rates are parts of what vLLM's own disaggregation does at most, as measured in the same run, so each of its points but
the last is one that it can keep up with. The bench model's tower takes a core about 5.5 ms for an image token, so the
encoder is what bounds either side: to about one picture a second.
"""

import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

from bench.load.arrivals import gamma
from bench.load.asking import Planned
from bench.load.workloads import SIDES, Mixed

SEED = 1
PROMPT_TOKENS = (16, 64)
ANSWER_TOKENS = (24, 48)
SETTLE_S = 2.0  # an engine polls for a second after its last step, on the core of the other side's
POISSON = 1.0  # burstiness
WARM_UP = 2  # requests


class Level(StrEnum):
    """How fast requests come."""

    MIDDLE = "60 %"
    HIGH = "90 %"
    ALL_AT_ONCE = "all at once"  # more than an encoder can take up; then what is left is answered


SHARES = {Level.MIDDLE: 0.6, Level.HIGH: 0.9, Level.ALL_AT_ONCE: math.inf}


@dataclass(frozen=True)
class Plan:
    """How much is measured."""

    rounds: int
    levels: Mapping[int, tuple[Level, ...]]  # by how many pictures a request has
    paced: int  # requests at a point, where they come at a rate
    at_once: int  # and where they all come at once
    burst: int  # that come at once to tell what vLLM's own can do

    @property
    def points(self) -> int:
        """Of a side in a round."""
        return sum(map(len, self.levels.values()))


FULL = Plan(
    rounds=5,
    levels={1: tuple(Level), 2: (Level.MIDDLE, Level.ALL_AT_ONCE)},
    paced=5,  # twenty-five in all rounds
    at_once=6,
    burst=8,
)
QUICK = Plan(rounds=1, levels={1: (Level.MIDDLE, Level.ALL_AT_ONCE)}, paced=4, at_once=6, burst=6)


def settings(plan: Plan) -> dict[str, Any]:
    """All that decides what is measured, for a journal."""
    return asdict(plan) | {
        "seed": SEED,
        "sides": SIDES,
        "prompt_tokens": PROMPT_TOKENS,
        "answer_tokens": ANSWER_TOKENS,
        "shares": {level.value: str(share) for level, share in SHARES.items()},
    }


@dataclass(frozen=True)
class Point:
    """One measurement of one side."""

    images: int
    level: Level
    round: int  # from 1 on, or one of those below

    @property
    def name(self) -> str:
        """What a journal calls it, and seeds are made of."""
        return f"{self.images} images, {self.level}, round {self.round}"


CAPACITY, WARMING_UP = 0, -1  # rounds: what vLLM's own can do, and what counts for nothing


def requests_at(point: Point, capacity_per_s: float, plan: Plan, nonce: str) -> Sequence[Planned]:
    """The same requests at the same moments for whichever side: a Poisson process of `rate_at` that point.

    Another `nonce` draws others, for whoever has been asked before may remember pictures and texts.
    """
    dice = random.Random(f"{SEED} {nonce} {point.name}")
    rate_per_s = rate_at(point, capacity_per_s)
    count = {CAPACITY: plan.burst, WARMING_UP: WARM_UP}.get(point.round)
    if count is None:
        count = plan.at_once if math.isinf(rate_per_s) else plan.paced
    due_s = gamma(rate_per_s, POISSON, count, dice)
    workload = Mixed(f"{point.images} images", (point.images, point.images), SIDES, PROMPT_TOKENS, ANSWER_TOKENS)
    bodies = workload.bodies(count, dice)
    return [Planned(at_s, kind, body) for at_s, (kind, body) in zip(due_s, bodies, strict=True)]


def rate_at(point: Point, capacity_per_s: float) -> float:
    """Requests per second."""
    return SHARES[point.level] * capacity_per_s
