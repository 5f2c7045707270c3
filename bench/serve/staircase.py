"""Traffic that climbs a ladder of rates: a stretch of time at each, one directly after the other.

No stretch but the first begins with an empty server, so each rate is seen as it is in the middle of a long day. What an
overloaded server still owes goes into the rates above, which do not count any more.
"""

import random
from collections.abc import Mapping, Sequence
from itertools import accumulate

from bench.load.answers import Answer
from bench.load.arrivals import gamma
from bench.load.driver import Planned
from bench.load.workloads import Workload

Steps = Mapping[float, range]
"""Rate in requests/s -> places of its requests in the plan; the lowest rate first."""


def steps(rates: Sequence[float], rung_s: float) -> Steps:
    """As many requests for each rate as come in about `rung_s` seconds, and one at least."""
    rates = sorted(rates)
    counts = [max(1, round(rate * rung_s)) for rate in rates]
    return {rate: range(end - count, end) for rate, count, end in zip(rates, counts, accumulate(counts), strict=True)}


def climb(workload: Workload, ladder: Steps, seed: str) -> list[Planned]:
    """Requests at these rates; the same at the same moments for the same seed.

    Arrivals are Poisson's, stretched to have exactly their rate: with so few, the draw of how many come would hide what
    is measured.
    """
    dice = random.Random(seed)
    bodies = iter(workload.bodies(sum(map(len, ladder.values())), dice))
    planned: list[Planned] = []
    begins_s = 0.0
    for rate, numbers in ladder.items():
        planned += [Planned(begins_s + due_s, *next(bodies)) for due_s in gamma(rate, 1.0, len(numbers), dice)]
        begins_s += len(numbers) / rate
    return planned


def by_rate(answers: Sequence[Answer], ladder: Steps) -> dict[float, list[Answer]]:
    """The answers to all that was planned, in its order, told apart."""
    return {rate: [answers[number] for number in numbers] for rate, numbers in ladder.items()}


def at_once(workload: Workload, count: int, seed: str) -> list[Planned]:
    """So many requests, all due at the beginning."""
    return [Planned(0.0, kind, body) for kind, body in workload.bodies(count, random.Random(seed))]
