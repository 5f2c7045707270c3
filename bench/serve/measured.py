"""What a comparison has measured, as answers; figures are made of it in `findings`."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

from bench.load.answers import Answer
from bench.load.workloads import kind_of
from bench.serve.groups import AGAIN
from bench.serve.plan import LIGHT, Plan
from bench.serve.reach import Climb, Round, together
from bench.serve.staircase import Steps
from bench.topologies.arrangement import Arrangement

MONOLITHIC = (Arrangement.MONO, Arrangement.MONO_X2, Arrangement.MONO_CALIBRATED, Arrangement.MONO_X2_CALIBRATED)


@dataclass
class Side:
    """One arrangement under one workload."""

    name: str
    burst: Sequence[Answer]  # of requests that all came at once
    rounds: list[Round] = field(default_factory=list)

    @cached_property
    def climb(self) -> Climb:
        """Its ladder. To be asked for when all rounds are there."""
        return Climb(self.rounds)

    @cached_property
    def pooled(self) -> dict[float, list[Answer]]:
        """The answers of all rounds, by rate. To be asked for when all rounds are there."""
        return together(self.rounds)

    @property
    def monolithic(self) -> bool:
        """Whether it is one of those that the splits are held against."""
        return self.name in MONOLITHIC

    @property
    def arrangement(self) -> str:
        """What it is, whatever group it was measured in."""
        return self.name.removesuffix(AGAIN)


@dataclass
class Contest:
    """All arrangements under one workload."""

    workload: str
    capacity: float  # requests/s of the fastest, when many come at once
    ladder: Steps
    sides: dict[str, Side] = field(default_factory=dict)

    @property
    def light(self) -> list[float]:
        """The rates that are a light load."""
        return [rate for rate in self.ladder if rate <= 1.01 * LIGHT * self.capacity]  # rates have been rounded

    def ttfts_ms(self, answers: Round) -> list[float]:
        """From when a request was due to its first token, under light load: of those with images, or else of all."""
        found = [answer for rate in self.light for answer in answers[rate] if answer.ok]
        pictured = [answer for answer in found if answer.kind != kind_of(0)]
        return [1000 * answer.waited_s for answer in pictured or found]


@dataclass
class Measured:
    """A comparison, as far as it has come."""

    plan: Plan
    contests: dict[str, Contest] = field(default_factory=dict)  # by workload
