"""Percentiles: which ones so many samples can tell, and how large they are."""

import math
from collections.abc import Mapping, Sequence

P99_FROM = 1000  # samples


def tail(samples: int) -> float:
    """The share up to which so many samples tell: 0.99, or 0.95 where they are few."""
    return 0.99 if samples >= P99_FROM else 0.95


def named(share: float) -> str:
    """`p95` for 0.95."""
    return f"p{100 * share:.0f}"


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that so large a share of them does not exceed."""
    return sorted(values)[math.ceil(share * len(values)) - 1]


def percentile_of_histogram(at_most: Mapping[float, int], share: float) -> float:
    """The same of samples in buckets: upper bound -> how many are not above it. In a bucket they are evenly spread.

    Raises:
        ValueError: it lies above the last bound, or there are no samples.
    """
    wanted = share * max(at_most.values(), default=0)
    lower, below = 0.0, 0
    for bound, count in sorted(at_most.items()):
        if count > below and count >= wanted and math.isfinite(bound):
            return lower + (bound - lower) * (wanted - below) / (count - below)
        lower, below = bound, count
    raise ValueError("no bucket has it")
