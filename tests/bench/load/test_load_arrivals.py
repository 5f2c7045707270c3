"""When requests come."""

import math
import random
from itertools import pairwise

import numpy as np
import pytest

from bench.load.arrivals import bursts, evenly, gamma, poisson


def gaps_of(due_s: list[float]) -> list[float]:
    return [later - earlier for earlier, later in pairwise(due_s)]


def spread(gaps: list[float]) -> float:
    return float(np.std(gaps) / np.mean(gaps))


def test_poisson_comes_at_the_rate_with_exponential_gaps_until_the_time_is_over() -> None:
    due_s = poisson(8.0, 500.0, random.Random(1))
    assert due_s == sorted(due_s)
    assert due_s[0] > 0
    assert due_s[-1] < 500
    assert len(due_s) == pytest.approx(4000, rel=0.05)
    assert spread(gaps_of(due_s)) == pytest.approx(1.0, rel=0.05)
    assert due_s == poisson(8.0, 500.0, random.Random(1))
    assert due_s != poisson(8.0, 500.0, random.Random(2))


@pytest.mark.parametrize("burstiness", [0.25, 1.0, 4.0])
def test_gamma_spreads_gaps_as_burstiness_says_and_ends_at_count_over_rate(burstiness: float) -> None:
    due_s = gamma(5.0, burstiness, 4000, random.Random(1))
    assert len(due_s) == 4000
    assert due_s[-1] == pytest.approx(800.0)
    assert spread(gaps_of(due_s)) == pytest.approx(1 / math.sqrt(burstiness), rel=0.1)


def test_gamma_of_infinite_burstiness_is_even_and_of_infinite_rate_at_once() -> None:
    assert gamma(4.0, math.inf, 3, random.Random(1)) == [0.25, 0.5, 0.75]
    assert gamma(math.inf, 1.0, 3, random.Random(1)) == [0.0, 0.0, 0.0]


@pytest.mark.parametrize("burstiness", [1e-6, 1.0])
def test_gamma_of_one_or_none_is_no_trouble(burstiness: float) -> None:
    assert gamma(4.0, burstiness, 0, random.Random(1)) == []
    assert gamma(4.0, burstiness, 1, random.Random(1)) in ([0.0], [0.25])


def test_even_ones_stop_before_the_time_is_over() -> None:
    assert evenly(2.0, 1.5) == [0.0, 0.5, 1.0]
    assert len(evenly(1.1, 10.0)) == 11


def test_each_stretch_has_one_burst_at_a_moment_of_its_own() -> None:
    due_s = bursts(3, 2.0, 9.0, random.Random(1))
    assert len(due_s) == 12
    moments = due_s[::3]
    assert due_s == [moment for moment in moments for _ in range(3)]
    assert [int(moment // 2.0) for moment in moments] == [0, 1, 2, 3]
    assert len({moment % 2.0 for moment in moments}) == 4
    assert len(bursts(1, 0.1, 0.3, random.Random(1))) == 3


def test_nothing_comes_at_no_rate() -> None:
    dice = random.Random(1)
    for refused in (
        lambda: poisson(0, 1, dice),
        lambda: gamma(-1, 1, 1, dice),
        lambda: gamma(1, 0, 1, dice),
        lambda: evenly(math.nan, 1),
        lambda: bursts(1, 0, 1, dice),
    ):
        with pytest.raises(ValueError, match="must be above zero"):
            refused()
