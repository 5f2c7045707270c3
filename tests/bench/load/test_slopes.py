"""Intervals hold the true figure as often as they say, and growth is told apart where noise allows."""

import random
from collections.abc import Callable, Sequence

import pytest

from bench.load.slopes import (
    Block,
    Growth,
    Interval,
    Undetermined,
    block_slopes,
    growth,
    jackknife_interval,
    mean_interval,
    power_growth,
    ratio,
    slope,
    student_t,
)

pytestmark = pytest.mark.slow

REPETITIONS = 2000
CONCURRENCIES = (1, 2, 4, 8, 12, 16)


def coverage(truth: float, repeat: Callable[[random.Random], Interval]) -> float:
    dice = random.Random(6)
    intervals = [repeat(dice) for _ in range(REPETITIONS)]
    return sum(each.low <= truth <= each.high for each in intervals) / REPETITIONS


# Of 2,000 repetitions, two standard errors are 1 %.
SAYS = pytest.approx(0.95, abs=0.015)


@pytest.mark.parametrize(
    ("degrees", "t"),
    [(1, 12.706), (2, 4.303), (3, 3.182), (4, 2.776), (5, 2.571), (9, 2.262), (30, 2.042), (99, 1.984)],
)
def test_t_is_as_in_the_tables(degrees: int, t: float) -> None:
    assert student_t(degrees) == pytest.approx(t, abs=0.0006)


def test_t_of_another_confidence() -> None:
    assert student_t(10, 0.99) == pytest.approx(3.169, abs=0.0006)


def test_an_interval_by_hand() -> None:
    assert mean_interval([1.0, 2.0, 3.0]) == Interval(
        2.0, pytest.approx(2 - 4.3027 / 3**0.5, abs=1e-3), pytest.approx(2 + 4.3027 / 3**0.5, abs=1e-3)
    )


@pytest.mark.parametrize("count", [3, 5, 8])
def test_the_mean_is_inside_as_often_as_said(count: int) -> None:
    assert coverage(7.0, lambda dice: mean_interval([dice.gauss(7.0, 3.0) for _ in range(count)])) == SAYS


def test_the_jackknife_of_a_mean_is_its_interval() -> None:
    values = [1.0, 2.0, 4.0, 9.0]
    without = [(sum(values) - value) / 3 for value in values]
    found, known = jackknife_interval(4.0, without), mean_interval(values)
    assert (found.value, found.low, found.high) == pytest.approx((known.value, known.low, known.high))
    with pytest.raises(ValueError, match="2 give no interval"):
        jackknife_interval(1.0, [1.0, 2.0])


@pytest.mark.parametrize("count", [5, 8])
def test_the_jackknife_holds_a_ratio_of_sums_about_as_often_as_said(count: int) -> None:
    def repeat(dice: random.Random) -> Interval:
        pairs = [(dice.gauss(6.0, 1.5), dice.gauss(3.0, 0.5)) for _ in range(count)]
        tops, bottoms = (sum(each) for each in zip(*pairs, strict=True))
        return jackknife_interval(tops / bottoms, [(tops - top) / (bottoms - bottom) for top, bottom in pairs])

    assert coverage(2.0, repeat) == pytest.approx(0.95, abs=0.025)


def swept(dice: random.Random, times: float) -> Block:
    """One sweep at a time whose slope, level and points are all off by something."""
    true, level = times + dice.gauss(0, 0.3), 40 + dice.gauss(0, 10)
    return [(x, level + true * x + dice.gauss(0, 1)) for x in (0.0, 1.0, 2.0, 4.0)]


def test_the_slope_is_inside_as_often_as_said_though_blocks_differ() -> None:
    assert coverage(2.5, lambda dice: slope([swept(dice, 2.5) for _ in range(5)])) == SAYS


def test_a_slope_without_noise_is_exact() -> None:
    found = slope([[(x, level + 3.0 * x) for x in (0.0, 1.0, 5.0)] for level in (1.0, 20.0, 300.0)])
    assert (found.value, found.low, found.high) == pytest.approx((3.0, 3.0, 3.0))


def paired(dice: random.Random) -> tuple[list[float], list[float]]:
    """A machine that is slow in one round is so for both."""
    rounds = [dice.gauss(0, 0.3) for _ in range(6)]
    return [2.4 + 2 * slow + dice.gauss(0, 0.2) for slow in rounds], [
        2.0 + slow + dice.gauss(0, 0.2) for slow in rounds
    ]


def test_the_ratio_is_inside_as_often_as_said() -> None:
    assert coverage(1.2, lambda dice: ratio(*paired(dice))) == SAYS


def test_a_ratio_gains_from_pairs() -> None:
    up = [10.0, 20.0, 30.0, 40.0]
    together, apart = ratio([2 * each for each in up], up), ratio([2 * each for each in reversed(up)], up)
    assert (together.low, together.value, together.high) == pytest.approx((2.0, 2.0, 2.0))
    assert apart.value == pytest.approx(2.0)
    assert apart.low < 1.0
    assert apart.high > 4.0


def test_a_ratio_of_negatives_has_its_ends_in_order() -> None:
    found = ratio([-2.1, -1.9, -2.0], [-1.0, -1.1, -0.9])
    assert found.value == pytest.approx(2.0)
    assert found.low < 2.0 < found.high


def test_there_is_no_ratio_to_what_may_be_zero() -> None:
    with pytest.raises(Undetermined, match=r"divided by is 0\.5 \(-0\.742 to 1\.74\), which may be 0\. Measure more"):
        ratio([1.0, 1.1, 0.9], [0.0, 0.5, 1.0])


def test_what_is_divided_may_be_zero() -> None:
    found = ratio([-0.1, 0.0, 0.1], [1.0, 1.1, 0.9])
    assert found.value == pytest.approx(0.0)
    assert found.low < 0 < found.high


def test_slopes_of_two_kinds_make_a_ratio() -> None:
    images = [[(0.0, 5.0), (1.0, 5.0 + 3.0 * slow)] for slow in (1.0, 1.2, 0.9)]
    texts = [[(0.0, 4.0), (1.0, 4.0 + 2.0 * slow)] for slow in (1.0, 1.2, 0.9)]
    assert ratio(block_slopes(images), block_slopes(texts)).high == pytest.approx(1.5)


def test_two_blocks_or_one_x_tell_nothing() -> None:
    with pytest.raises(ValueError, match="2 give no interval; measure 3"):
        mean_interval([1.0, 2.0])
    with pytest.raises(ValueError, match="1 different x, and needs 2"):
        slope([[(1.0, 2.0), (1.0, 3.0)]] * 3)
    with pytest.raises(ValueError, match="0 different x, and needs 3"):
        growth([[]] * 3)
    with pytest.raises(ValueError, match="no pairs"):
        ratio([1.0, 2.0, 3.0], [1.0, 2.0, 3.0, 4.0])


def measured(true: Callable[[float], float], noise: float, seed: int, blocks: int = 5) -> list[Block]:
    dice = random.Random(seed)
    return [
        [(x, true(x) * pace * dice.gauss(1, noise)) for x in CONCURRENCIES]
        for pace in (dice.gauss(1, 0.05) for _ in range(blocks))
    ]


SHAPES = [
    (lambda x: 30.0, Growth.FLAT),
    (lambda x: 30.0 + 0.1 * x, Growth.FLAT),  # 5 % more at the end
    (lambda x: 30.0 - 0.5 * x, Growth.FLAT),
    (lambda x: 20.0 + 5.0 * x, Growth.LINEAR),
    (lambda x: 30.0 * x**0.5, Growth.LINEAR),  # or less
    (lambda x: 20.0 + 0.5 * x**2, Growth.SUPER_LINEAR),
    (lambda x: 20.0 + 2.0 * x**1.5, Growth.SUPER_LINEAR),
    (lambda x: 20.0 + 10.0 * max(0.0, x - 8), Growth.SUPER_LINEAR),  # flat until it is full
]


@pytest.mark.parametrize(("true", "verdict"), SHAPES)
@pytest.mark.parametrize("seed", range(5))
def test_growth_is_told_through_noise(true: Callable[[float], float], verdict: Growth, seed: int) -> None:
    assert growth(measured(true, 0.02, seed))[0] is verdict


def verdict_of(blocks: Sequence[Block]) -> Growth | None:
    try:
        return growth(blocks)[0]
    except Undetermined:
        return None


def test_linear_is_seldom_taken_for_more_and_more_never_surely_for_linear() -> None:
    linear = [verdict_of(measured(lambda x: 20.0 + 5.0 * x, 0.05, seed)) for seed in range(400)]
    assert linear.count(Growth.SUPER_LINEAR) <= 12  # an interval's lower end alone would let 2.5 % through
    assert linear.count(Growth.FLAT) == 0
    bent = [verdict_of(measured(lambda x: 20.0 + 5.0 * x + 0.3 * x**2, 0.05, seed)) for seed in range(400)]
    assert bent.count(Growth.LINEAR) <= 2


def test_growth_says_the_numbers() -> None:
    exact = [[(x, 10.0 + x**2) for x in (0.0, 5.0, 10.0)]] * 3
    verdict, words = growth(exact)
    assert verdict is Growth.SUPER_LINEAR
    assert words == (
        "over 0 to 10 it rises by 100 (100 to 100) from 10, of which bend 100 (100 to 100): "
        "the bend is 100% of the rise, and surely there"
    )


def test_too_much_noise_for_a_verdict() -> None:
    with pytest.raises(Undetermined, match=r"It may not rise at all\. Measure more blocks"):
        growth(measured(lambda x: 30.0 + x, 0.6, seed=2, blocks=3))
    bent = [[(0.0, 10.0), (5.0, 20.0 + off), (10.0, 30.0)] for off in (-9.0, 0.0, 6.0)]
    with pytest.raises(Undetermined, match=r"A bend of 20% of the rise may be there, or may not"):
        growth(bent)


@pytest.mark.parametrize(("dents", "is_linear"), [((0.4, 0.5, 0.6), True), ((0.625, 1.25, 1.875), False)])
def test_linear_is_what_has_surely_no_bend_that_counts(dents: tuple[float, ...], is_linear: bool) -> None:
    bent = [[(0.0, 10.0), (5.0, 20.0 - dent), (10.0, 30.0)] for dent in dents]  # a bend of four times that, of 20
    if is_linear:
        verdict, words = growth(bent)
        assert verdict is Growth.LINEAR
        assert words.endswith("of which bend 2 (1.01 to 2.99): the bend is surely below 20% of the rise")
    else:
        with pytest.raises(Undetermined, match=r"of which bend 5 \(-1\.21 to 11\.2\)\. A bend of 20%"):
            growth(bent)


def test_a_rise_that_may_be_larger_is_not_flat() -> None:
    rising = [[(0.0, 10.0), (5.0, 10.0 + rise / 2), (10.0, 10.0 + rise)] for rise in (1.0, 2.0, 3.0)]
    with pytest.raises(Undetermined, match=r"rises by 2 \(-0\.484 to 4\.48\) from 10"):
        growth(rising)


@pytest.mark.parametrize(
    ("power", "verdict"),
    [(0.0, Growth.FLAT), (0.5, Growth.LINEAR), (1.0, Growth.LINEAR), (1.5, Growth.SUPER_LINEAR)],
)
@pytest.mark.parametrize("seed", range(5))
def test_a_power_is_told_through_noise(power: float, verdict: Growth, seed: int) -> None:
    assert power_growth(measured(lambda x: 400.0 * x**power, 0.05, seed))[0] is verdict


def test_what_nearly_doubles_is_not_flat_and_what_may_be_super_linear_is_not_linear() -> None:
    assert power_growth([[(x, x**0.45) for x in (1.0, 2.0, 4.0)]] * 3)[0] is Growth.LINEAR
    with pytest.raises(Undetermined, match=r"as the power 1\.2 \("):
        power_growth([[(x, x**power) for x in (1.0, 2.0, 4.0)] for power in (1.1, 1.2, 1.3)])


def test_a_power_says_the_numbers() -> None:
    verdict, words = power_growth([[(x, 3.0 * x**2) for x in (1.0, 2.0, 4.0)]] * 3)
    assert verdict is Growth.SUPER_LINEAR
    assert words == "it grows as the power 2 (2 to 2): surely above 1"


def test_a_power_is_not_told_through_too_much_noise() -> None:
    with pytest.raises(Undetermined, match=r"as the power 1\.\d+ \(.*Measure more blocks"):
        power_growth([[(1.0, 1.0), (2.0, 2.0), (4.0, 4.0**power)] for power in (0.7, 1.0, 1.6)])
    with pytest.raises(Undetermined, match="a measurement is 0, lost in noise"):
        power_growth([[(1.0, 1.0), (2.0, 0.0), (4.0, 4.0)]] * 3)
    with pytest.raises(ValueError, match="2 give no interval"):
        power_growth([[(1.0, 1.0), (2.0, 2.0), (4.0, 4.0)]] * 2)
