"""Traffic that climbs a ladder of rates: a stretch of time at each, one directly after the other.

No stretch but the first begins with an empty server, so each rate is seen as it is in the middle of a long day. What an
overloaded server still owes goes into the rates above, which do not count any more. An answer may last longer than its
rate does, so gaps between tokens count for the rate that came meanwhile, and not until what belongs to the rate before
has left.
"""

import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise

from bench.load.answers import Answer
from bench.load.arrivals import bursts, gamma
from bench.load.driver import Planned
from bench.load.workloads import Workload

Steps = Mapping[float, range]
"""Rate in requests/s -> places of its requests in the plan; the lowest rate first."""

UNWATCHED = 1 / 3  # of a rung: until then what belongs to the rate before has left
BACKLOG = 0.05  # of what comes may be left over
BY_CHANCE = 20  # one of so many stable rungs may be taken for one where a backlog grows
TICK_S = 1e-6  # more than what sums of times are wrong by


@dataclass(frozen=True)
class Rung:
    """What was seen at one rate, in one round or in several together.

    Whether the server keeps up is told from the requests that wait: due, and without a first token. Those that are
    being answered are not among them: there come to be more of these until the first have ended, and no rung is so long
    that nothing of that would be seen. So a server with slots left for what comes in a rung keeps up even where it
    generates too slowly to go on like that for ever; how fast it does, bursts tell.
    """

    answers: Sequence[Answer]  # to what was due there
    gaps_s: Sequence[float] = ()  # between tokens of all streams, that ended in the part of it that is watched
    due: int = 0  # in the part of it that is watched
    before: int = 0  # waiting as that part begins
    after: int = 0  # and as it ends
    watched_s: float = 0.0

    @property
    def begun_per_s(self) -> float:
        """Requests that got their first token there, by second."""
        return (self.due + self.before - self.after) / self.watched_s if self.watched_s else math.inf

    @property
    def keeps_up(self) -> bool:
        """Whether no backlog grows, but for a twentieth of what comes, and for what chance may make of it: where two
        counts are Poisson's of the same mean, the second is a binomial part of their sum, of one half (the exact test,
        Przyborowski and Wilenski 1940; of a few requests a normal distribution would tell another story).
        """
        after = math.ceil(self.after - BACKLOG * self.due)
        if after <= self.before:
            return True
        together = self.before + after
        as_many = sum(math.comb(together, count) for count in range(after, together + 1))
        return BY_CHANCE * as_many >= 1 << together


Round = Mapping[float, Rung]
"""Rate in requests/s -> what was seen there."""


def steps(rates: Sequence[float], rung_s: float, least: int, together: int = 1) -> Steps:
    """As many requests for each rate as come in about `rung_s` seconds, and `least` at least; whole bursts of them."""
    rates = sorted(rates)
    counts = [whole_bursts(max(least, round(rate * rung_s)), together) for rate in rates]
    return {rate: range(end - count, end) for rate, count, end in zip(rates, counts, accumulate(counts), strict=True)}


def up_to(ladder: Steps, most: float) -> Steps:
    """Its rates as far as the first that is above `most`: what lies beyond that, nobody needs to see fail."""
    below = [rate for rate in ladder if rate <= most]
    return {rate: ladder[rate] for rate in list(ladder)[: len(below) + 1]}


def climb(workload: Workload, ladder: Steps, seed: str, together: int = 1) -> list[Planned]:
    """Requests at these rates; the same at the same moments for the same seed, however far the ladder goes.

    Arrivals are as `due_s` draws them.
    """
    dice = random.Random(seed)
    planned: list[Planned] = []
    begins_s = 0.0
    for rate, numbers in ladder.items():
        bodies = workload.bodies(len(numbers), dice)
        at_s = due_s(rate, len(numbers), together, dice)
        planned += [Planned(begins_s + each_s, *body) for each_s, body in zip(at_s, bodies, strict=True)]
        begins_s += len(numbers) / rate
    return planned


def due_s(rate: float, count: int, together: int, dice: random.Random, burstiness: float = 1.0) -> list[float]:
    """When so many requests come: in bursts of so many, if that is more than one.

    Else as Poisson's, unless `burstiness` says otherwise, and stretched to have exactly their rate: with so few, the
    draw of how many come would hide what is measured.
    """
    if together > 1 and math.isfinite(rate):
        return bursts(together, together / rate, count / rate, dice)
    return gamma(rate, burstiness, count, dice)


def whole_bursts(count: int, together: int) -> int:
    """The least number that is no less, and bursts of that size make up."""
    return math.ceil(count / together) * together


def by_rate(answers: Sequence[Answer], ladder: Steps) -> dict[float, Rung]:
    """The answers to all that was planned, in its order, told apart."""
    rungs = {}
    begins_s = 0.0
    for rate, numbers in ladder.items():
        ends_s = begins_s + len(numbers) / rate
        from_s = begins_s + UNWATCHED * (ends_s - begins_s)
        rungs[rate] = Rung(
            answers[numbers.start : numbers.stop],
            _gaps_s(answers, from_s, ends_s),
            sum(from_s <= answer.due_s + TICK_S < ends_s for answer in answers),
            _waiting(answers, from_s),
            _waiting(answers, ends_s),
            ends_s - from_s,
        )
        begins_s = ends_s
    return rungs


def _gaps_s(answers: Sequence[Answer], from_s: float, until_s: float) -> list[float]:
    """Those that ended meanwhile. What failed in the end is left out."""
    pairs = (pair for answer in answers if answer.ok for pair in pairwise(answer.tokens_s))
    return [later_s - earlier_s for earlier_s, later_s in pairs if from_s <= later_s < until_s]


def _waiting(answers: Sequence[Answer], at_s: float) -> int:
    """Just before that moment, for the last request of a rung is due as it ends, and would always be among them."""
    return sum(answer.due_s < at_s - TICK_S <= _first_token_s(answer) for answer in answers)


def _first_token_s(answer: Answer) -> float:
    """Or when it failed without one."""
    return answer.tokens_s[0] if answer.chunks_s else answer.ended_s


def pooled(rounds: Sequence[Round]) -> dict[float, Rung]:
    """All rounds together, by rate, the lowest first."""
    return {rate: _together([each[rate] for each in rounds]) for rate in sorted(rounds[0])}


def _together(rungs: Sequence[Rung]) -> Rung:
    return Rung(
        [answer for rung in rungs for answer in rung.answers],
        [gap_s for rung in rungs for gap_s in rung.gaps_s],
        sum(rung.due for rung in rungs),
        sum(rung.before for rung in rungs),
        sum(rung.after for rung in rungs),
        sum(rung.watched_s for rung in rungs),
    )


def at_once(workload: Workload, count: int, seed: str) -> list[Planned]:
    """So many requests, all due at the beginning."""
    return [Planned(0.0, kind, body) for kind, body in workload.bodies(count, random.Random(seed))]


def answered_per_s(bursts: Sequence[Sequence[Answer]]) -> float:
    """Of those that came at once, of all bursts together: answers over the time to the last.

    A server that has to be filled first, and runs empty at the end, might go on a little faster for ever.
    """
    answered = sum(answer.ok for burst in bursts for answer in burst)
    return answered / sum(max(answer.ended_s for answer in burst) for burst in bursts)
