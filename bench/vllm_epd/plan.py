"""What is asked of both sides: how many pictures a request has, and how fast requests come.

Rates are parts of what vLLM's own disaggregation does at most, as measured in the same run, so each of its points but
the last is one that it can keep up with.
"""

import math
import random
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

from bench.load.arrivals import gamma
from bench.load.asking import Planned
from bench.load.workloads import Mixed

SEED = 1
SIDES = ((112, 112), (140, 140), (168, 168))  # pixels: 16, 25 and 36 image tokens
PROMPT_TOKENS = (8, 16)
ANSWER_TOKENS = (8, 16)
SETTLE_S = 2.0  # an engine polls for a second after its last step, on the core of the other side's
POISSON = 1.0  # burstiness


class Level(StrEnum):
    """How fast requests come."""

    LOW = "30 %"
    MIDDLE = "60 %"
    HIGH = "90 %"
    ALL_AT_ONCE = "all at once"  # beyond what anybody can do: saturated until the last one is answered


SHARES = {Level.LOW: 0.3, Level.MIDDLE: 0.6, Level.HIGH: 0.9, Level.ALL_AT_ONCE: math.inf}


@dataclass(frozen=True)
class Plan:
    """How much is measured."""

    rounds: int
    images: tuple[int, ...]  # of a request
    levels: tuple[Level, ...]
    window_s: float  # for which requests come, at about
    requests: tuple[int, int]  # at a point: so many at least and, where they come all at once, so many


FULL = Plan(rounds=5, images=(1, 4), levels=tuple(Level), window_s=4.5, requests=(3, 12))
QUICK = Plan(rounds=1, images=(1,), levels=(Level.MIDDLE, Level.ALL_AT_ONCE), window_s=3.0, requests=(3, 8))


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


def requests_at(point: Point, capacity_per_s: float, plan: Plan) -> Sequence[Planned]:
    """The same requests at the same moments for whichever side: a Poisson process of `rate_at` that point."""
    dice = random.Random(f"{SEED} {point.name}")
    rate_per_s = rate_at(point, capacity_per_s)
    least, most = plan.requests
    count = most if math.isinf(rate_per_s) else min(most, max(least, round(plan.window_s * rate_per_s)))
    due_s = gamma(rate_per_s, POISSON, count, dice)
    workload = Mixed(f"{point.images} images", (point.images, point.images), SIDES, PROMPT_TOKENS, ANSWER_TOKENS)
    bodies = workload.bodies(count, dice)
    return [Planned(at_s, kind, body) for at_s, (kind, body) in zip(due_s, bodies, strict=True)]


def rate_at(point: Point, capacity_per_s: float) -> float:
    """Requests per second."""
    return SHARES[point.level] * capacity_per_s
