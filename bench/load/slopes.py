"""What repeated sweeps tell of slopes, ratios and growth, with 95 % intervals.

A block is one sweep, measured at one time. Points of one block share that time's noise, so only the spread between
blocks tells how sure a figure is: each block is fitted by itself, and the interval is over the blocks' figures.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np

Block = Sequence[tuple[float, float]]
"""(x, y) points of one sweep."""

CONFIDENCE = 0.95
LEAST = 3  # blocks, for an interval that means anything

FLAT_BELOW = 0.25  # of the level at the lowest concurrency: what rises less over all of them has not grown
BEND_FROM = 0.2  # of the rise: the quadratic part of about x^1.2
POWER_SUPER_FROM = 1.2  # as much of a bend as above


class Undetermined(ValueError):
    """The measurements do not tell; the message says why, with the numbers, and what would help."""


@dataclass(frozen=True)
class Interval:
    """A figure, and bounds that hold the true one in 95 of 100 repetitions."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.3g} ({self.low:.3g} to {self.high:.3g})"


def mean_interval(values: Sequence[float]) -> Interval:
    """The mean, with Student's t interval.

    Raises:
        ValueError: fewer than three values.
    """
    _enough(values)
    mean = float(np.mean(values))
    reach = student_t(len(values) - 1) * float(np.std(values, ddof=1)) / math.sqrt(len(values))
    return Interval(mean, mean - reach, mean + reach)


def jackknife_interval(value: float, without_one: Sequence[float]) -> Interval:
    """Of a figure that all blocks give together, from what it would be without each of them.

    Source: J. W. Tukey, "Bias and confidence in not quite large samples", Ann. Math. Statist. 29 (1958): the standard
    error is sqrt((n - 1) / n * the sum of squared deviations of those n values from their mean), with Student's t of
    n - 1 degrees. Of figures that jump, such as quantiles of few samples, it is a rough one.

    Raises:
        ValueError: fewer than three values.
    """
    _enough(without_one)
    count = len(without_one)
    error = math.sqrt((count - 1) / count * float(np.sum((np.asarray(without_one) - np.mean(without_one)) ** 2)))
    reach = student_t(count - 1) * error
    return Interval(value, value - reach, value + reach)


def block_slopes(blocks: Sequence[Block]) -> list[float]:
    """The least-squares line's slope in each block: y per x. Two lists of them can be given to `ratio`.

    Raises:
        ValueError: a block has fewer than two different x.
    """
    return [_fit(block, 1)[1] for block in blocks]


def slope(blocks: Sequence[Block]) -> Interval:
    """The mean of the blocks' slopes.

    Raises:
        ValueError: fewer than three blocks, or one has fewer than two different x.
    """
    return mean_interval(block_slopes(blocks))


def ratio(a: Sequence[float], b: Sequence[float]) -> Interval:
    """The ratio of the means of a and b, which were measured in pairs, by Fieller's theorem.

    Source: E. C. Fieller, "Some problems in interval estimation", J. R. Stat. Soc. B 16 (1954). The interval holds each
    r for which the mean of a - r b is not significantly different from 0. It has two ends only if b's mean is.

    Raises:
        Undetermined: b's mean is not away from 0, so that any ratio might be.
        ValueError: fewer than three pairs, or values without a partner.
    """
    if len(a) != len(b):
        raise ValueError(f"{len(a)} values and {len(b)} are no pairs")
    below = mean_interval(b)
    if below.low <= 0 <= below.high:
        raise Undetermined(
            f"No ratio: what is divided by is {below}, which may be 0. Measure more blocks, or a wider range."
        )
    over = float(np.mean(a))
    spread = np.cov(a, b) * student_t(len(a) - 1) ** 2 / len(a)
    # f(r) = square r^2 - 2 half r + rest, which is (mean of a - r b)^2 - (t times its standard error)^2.
    square = below.value**2 - float(spread[1, 1])
    half = over * below.value - float(spread[0, 1])
    rest = over**2 - float(spread[0, 0])
    reach = math.sqrt(max(0.0, half**2 - square * rest))  # f is not above 0 at the ratio of the means: rounding alone
    return Interval(over / below.value, (half - reach) / square, (half + reach) / square)


class Growth(StrEnum):
    """How something grows with concurrency."""

    FLAT = "flat"
    LINEAR = "linear"  # or less
    SUPER_LINEAR = "super-linear"


def growth(blocks: Sequence[Block]) -> tuple[Growth, str]:
    """How y grows over x, and the numbers that decided it, in words.

    With u going from 0 at the lowest x to 1 at the highest, each block gives its rise, the slope of y = a + rise u, and
    its bend, c in y = a + b u + c u^2. Flat: the rise is surely under a quarter of the level at the lowest x.
    Super-linear: it surely rises, the bend is surely above 0, and it is a fifth of the rise or more. Linear: it surely
    rises, and the bend is surely less than a fifth of the rise; what flattens out is called so, too.

    Raises:
        Undetermined: the noise allows several of these.
        ValueError: fewer than three blocks, or one has fewer than three different x.
    """
    _enough(blocks)
    for block in blocks:
        _different(block, 3)
    least = min(x for block in blocks for x, _ in block)
    most = max(x for block in blocks for x, _ in block)
    scaled = [[((x - least) / (most - least), y) for x, y in block] for block in blocks]
    bend = mean_interval([_fit(block, 2)[2] for block in scaled])
    rise = slope(scaled)
    level = float(np.mean([y for block in scaled for u, y in block if u == 0]))
    said = f"over {least:g} to {most:g} it rises by {rise} from {level:.3g}, of which bend {bend}"
    if rise.high < FLAT_BELOW * abs(level):
        return Growth.FLAT, f"{said}: less than {FLAT_BELOW:.0%} of the level"
    if rise.low <= 0:
        raise Undetermined(f"Growth is not told: {said}. It may not rise at all. Measure more blocks.")
    if bend.low > 0 and bend.value >= BEND_FROM * rise.value:
        return Growth.SUPER_LINEAR, f"{said}: the bend is {bend.value / rise.value:.0%} of the rise, and surely there"
    if bend.high >= BEND_FROM * rise.value:
        raise Undetermined(
            f"Growth is not told: {said}. A bend of {BEND_FROM:.0%} of the rise may be there, or may not. Measure more "
            "blocks."
        )
    return Growth.LINEAR, f"{said}: the bend is surely below {BEND_FROM:.0%} of the rise"


def power_growth(blocks: Sequence[Block]) -> tuple[Growth, str]:
    """How y grows over x where nothing is nothing, as y = a x^p, and the numbers that decided it, in words.

    Each block gives its p, by least squares of the logarithms. Flat: from the lowest x to the highest, y surely grows
    by less than a quarter. Super-linear: p is surely above 1, and 1.2 or more. Linear: p is surely above 0 and below
    1.2; what flattens out is called so, too. It needs fewer blocks than `growth`, for it has no level to find.

    Raises:
        Undetermined: the noise allows several of these, or has made a value of nothing or less.
        ValueError: fewer than three blocks, or one has fewer than three different x.
    """
    _enough(blocks)
    for block in blocks:
        _different(block, 3)
    lowest = min(y for block in blocks for _, y in block)
    if lowest <= 0:
        raise Undetermined(f"Growth is not told: a measurement is {lowest:.3g}, lost in noise. Measure more blocks.")
    power = mean_interval(block_slopes([[(math.log(x), math.log(y)) for x, y in block] for block in blocks]))
    said = f"it grows as the power {power}"
    xs = [x for block in blocks for x, _ in block]
    if (max(xs) / min(xs)) ** power.high < 1 + FLAT_BELOW:
        return Growth.FLAT, f"{said}: over {min(xs):g} to {max(xs):g} surely by less than {FLAT_BELOW:.0%}"
    if power.low > 1 and power.value >= POWER_SUPER_FROM:
        return Growth.SUPER_LINEAR, f"{said}: surely above 1"
    if power.low > 0 and power.high < POWER_SUPER_FROM:
        return Growth.LINEAR, f"{said}: surely above 0 and below {POWER_SUPER_FROM}"
    raise Undetermined(f"Growth is not told: {said}. Measure more blocks.")


def _fit(block: Block, degree: int) -> list[float]:
    """Coefficients of the least-squares polynomial, of x^0 first."""
    _different(block, degree + 1)
    xs, ys = np.asarray(block, dtype=float).T
    solved, *_ = np.linalg.lstsq(np.vander(xs, degree + 1, increasing=True), ys, rcond=None)
    return [float(each) for each in solved]


def _different(block: Block, least: int) -> None:
    found = len({x for x, _ in block})
    if found < least:
        raise ValueError(f"a block has {found} different x, and needs {least}")


def _enough(measured: Sequence[object]) -> None:
    if len(measured) < LEAST:
        raise ValueError(f"{len(measured)} give no interval; measure {LEAST} or more")


def student_t(degrees: int, confidence: float = CONFIDENCE) -> float:
    """The t that |t| exceeds with probability 1 - confidence, by bisection.

    Source of the distribution as finite sums: M. Abramowitz and I. Stegun, Handbook of Mathematical Functions, 26.7.3
    and 26.7.4. With the angle = atan(t / sqrt(degrees)), it rises from 0 to 1 as the angle goes from 0 to pi / 2.
    """
    low, high = 0.0, math.pi / 2
    for _ in range(60):
        middle = (low + high) / 2
        if _within(middle, degrees) < confidence:
            low = middle
        else:
            high = middle
    return math.tan(low) * math.sqrt(degrees)


def _within(angle: float, degrees: int) -> float:
    """The probability that |t| is not above tan(angle) sqrt(degrees)."""
    sine, cosine = math.sin(angle), math.cos(angle)
    odd = degrees % 2
    term = cosine if odd else 1.0
    total = 0.0 if degrees == 1 else term
    for power in range(2 + odd, degrees - 1, 2):
        term *= cosine**2 * (power - 1) / power
        total += term
    return 2 / math.pi * (angle + sine * total) if odd else sine * total
