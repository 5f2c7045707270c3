"""What a comparison has measured, as answers; figures are made of it in `findings`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from bench.load.answers import Answer
from bench.load.workloads import kind_of
from bench.serve.plan import Plan
from bench.serve.reach import Climb
from bench.serve.sides import AGAIN
from bench.serve.staircase import Round, Rung, Steps, answered_per_s
from bench.topologies.arrangement import Arrangement

MONOLITHIC = (Arrangement.MONO, Arrangement.MONO_X2, Arrangement.MONO_CALIBRATED, Arrangement.MONO_X2_CALIBRATED)


@dataclass
class Side:
    """One arrangement under one workload."""

    name: str
    burst: Sequence[Answer]  # of requests that all came at once
    rounds: list[Round] = field(default_factory=list)

    @property
    def most(self) -> float:
        """What it answers in a second when many come at once: no rate above that can go on."""
        return answered_per_s(self.burst)

    @cached_property
    def climb(self) -> Climb:
        """Its ladder. To be asked for when all rounds are there."""
        return Climb(self.rounds, self.most)

    @property
    def pooled(self) -> Mapping[float, Rung]:
        """All rounds together, by rate. To be asked for when all rounds are there."""
        return self.climb.pooled

    @property
    def monolithic(self) -> bool:
        """Whether no part of it is split."""
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
    def rivals(self) -> list[Side]:
        """The monolithic arrangements that the splits are held against: those that were measured to the end.

        A candidate's single round has fewer gaps, whose tail is told at a lower percentile: it would look better.
        """
        rounds = max(len(side.rounds) for side in self.sides.values())
        return [side for side in self.sides.values() if side.monolithic and len(side.rounds) == rounds]

    @property
    def lightest(self) -> float:
        """The lowest rate: a light load, of whose queues an answer's time says little. Everybody has seen it."""
        return min(self.ladder)

    def waits_ms(self, seen: Round) -> list[float]:
        """From when a request was due to its first token, under the lightest load: of requests with images, or of all
        where none has any.
        """
        found = [answer for answer in seen[self.lightest].answers if answer.ok]
        pictured = [answer for answer in found if answer.kind != kind_of(0)]
        return [1000 * answer.waited_s for answer in pictured or found]


@dataclass
class Measured:
    """A comparison, as far as it has come."""

    plan: Plan
    contests: dict[str, Contest] = field(default_factory=dict)  # by workload
    finalists: tuple[str, ...] = ()  # of each kind of candidates the best
