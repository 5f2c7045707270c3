"""What a comparison has measured, as answers; figures are made of it in `findings`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from bench.load.answers import Answer
from bench.load.goodput import Shares, shares_of
from bench.load.workloads import kind_of
from bench.serve.plan import Plan
from bench.serve.reach import Climb
from bench.serve.sides import AGAIN
from bench.serve.staircase import Round, Rung, Steps, answered_per_s, pooled
from bench.topologies.arrangement import Arrangement

MONOLITHIC = (Arrangement.MONO, Arrangement.MONO_X2, Arrangement.MONO_CALIBRATED, Arrangement.MONO_X2_CALIBRATED)


@dataclass
class Side:
    """One arrangement under one workload."""

    name: str
    bursts: list[Sequence[Answer]] = field(default_factory=list)  # of each round: requests that all came at once
    rounds: list[Round] = field(default_factory=list)
    busy: list[Sequence[float]] = field(default_factory=list)  # in bursts, by half: the share of time its cores compute

    @property
    def most(self) -> float:
        """What it answers in a second when many come at once."""
        return answered_per_s(self.bursts)

    def without(self, number: int) -> float:
        """The same, if a round had not been."""
        return answered_per_s([*self.bursts[:number], *self.bursts[number + 1 :]])

    @cached_property
    def pooled(self) -> Mapping[float, Rung]:
        """All rounds together, by rate. To be asked for when all rounds are there."""
        return pooled(self.rounds)

    @property
    def monolithic(self) -> bool:
        """Whether it is one of those that the splits are held against."""
        return self.name in MONOLITHIC

    @property
    def arrangement(self) -> str:
        """What it is, whatever group it was measured in."""
        return self.name.partition(AGAIN)[0]


@dataclass
class Contest:
    """All arrangements under one workload. Of one that is there `again`, in another group, only bursts are measured."""

    workload: str
    capacity: float  # requests/s of the first group's fastest, when many come at once
    ladder: Steps
    sides: dict[str, Side] = field(default_factory=dict)
    again: dict[str, Side] = field(default_factory=dict)

    @property
    def lightest(self) -> float:
        """The lowest rate: a light load, of whose queues an answer's time says little. Everybody has seen it."""
        return min(self.ladder)

    @cached_property
    def shares(self) -> Shares:
        """The percentiles at which objectives are held: the same for all, by whoever has the fewest samples."""
        rungs = (rung for side in self.sides.values() for rung in side.pooled.values())
        return shares_of((len(rung.answers), len(rung.gaps_s)) for rung in rungs)

    @cached_property
    def climbs(self) -> Mapping[str, Climb]:
        """What each did with the ladder. To be asked for when all rounds of all are there."""
        return {name: Climb(side.rounds, side.bursts, self.shares) for name, side in self.sides.items()}

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
