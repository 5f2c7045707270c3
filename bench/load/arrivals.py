"""When requests come: due times in seconds since the drive began, in order."""

import math
import random
from itertools import accumulate


def poisson(rate_per_s: float, seconds: float, dice: random.Random) -> list[float]:
    """As users come of whom none knows of the others: gaps from an exponential distribution, until the time is over.

    Raises:
        ValueError: a rate that is not above zero.
    """
    _must_be_above_zero(rate_per_s, "rate")
    due_s, at = [], dice.expovariate(rate_per_s)
    while at < seconds:
        due_s.append(at)
        at += dice.expovariate(rate_per_s)
    return due_s


def gamma(rate_per_s: float, burstiness: float, count: int, dice: random.Random) -> list[float]:
    """So many as `vllm bench serve --request-rate --burstiness` sends (get_request in vllm/benchmarks/serve.py, 0.32).

    Gaps are from a gamma distribution of shape `burstiness` and mean 1 / rate: 1 is Poisson's, less comes in bursts,
    more is evener, infinity even. They are then stretched so that the last request is due at count / rate. At
    an infinite rate all are due at once.

    Raises:
        ValueError: a rate or burstiness that is not above zero.
    """
    _must_be_above_zero(rate_per_s, "rate")
    _must_be_above_zero(burstiness, "burstiness")
    if math.isinf(rate_per_s):
        return [0.0] * count
    if math.isinf(burstiness):
        return [number / rate_per_s for number in range(1, count + 1)]
    # The stretching takes the mean of the gaps away, so their scale may be any.
    sums = list(accumulate(dice.gammavariate(burstiness, 1.0) for _ in range(count)))
    whole = sums[-1] or 1.0 if sums else 1.0  # gaps of a low burstiness may all round to nothing
    return [each / whole * count / rate_per_s for each in sums]


def evenly(rate_per_s: float, seconds: float) -> list[float]:
    """One at once, and one each 1 / rate until the time is over.

    Raises:
        ValueError: a rate that is not above zero.
    """
    _must_be_above_zero(rate_per_s, "rate")
    return [number / rate_per_s for number in range(math.ceil(round(rate_per_s * seconds, 9)))]


def bursts(size: int, every_s: float, seconds: float, dice: random.Random) -> list[float]:
    """`size` requests at one moment, drawn anew within each stretch of `every_s` that the time has room for.

    So their number is certain, while no period of theirs can fall in step with anything else that recurs.

    Raises:
        ValueError: a stretch that is not above zero.
    """
    _must_be_above_zero(every_s, "time between bursts")
    moments = [every_s * (stretch + dice.random()) for stretch in range(int(round(seconds / every_s, 9)))]
    return [moment for moment in moments for _ in range(size)]


def _must_be_above_zero(value: float, name: str) -> None:
    if not value > 0:
        raise ValueError(f"the {name} must be above zero, and {value} is not")
