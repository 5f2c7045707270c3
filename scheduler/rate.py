"""Measured rates and times. Imports only the standard library."""

import math

EWMA_WEIGHT = 0.2
"""How much one sample moves a measured rate."""

SAMPLE_BOUND = 4.0
"""A sample counts as at most this factor away from the present rate: an engine may answer out of its own cache."""


class Rate:
    """Tokens per second as an exponentially weighted moving average; positive and finite from its seed on."""

    def __init__(self, seed: float) -> None:
        self.tokens_per_s = seed

    def learn(self, tokens: float, seconds: float) -> float:
        """Takes in one sample; a sample without work or without time says nothing and is left out.

        Returns by how much the rate has changed.
        """
        if not (tokens > 0 and 0 < seconds < math.inf):
            return 0.0
        present, sample = self.tokens_per_s, tokens / seconds
        if sample > present * SAMPLE_BOUND:
            sample = present * SAMPLE_BOUND
        elif sample < present / SAMPLE_BOUND:
            sample = present / SAMPLE_BOUND
        change = EWMA_WEIGHT * (sample - present)
        self.tokens_per_s = present + change
        return change


class MeanTime:
    """Seconds that something takes, as an exponentially weighted moving average; 0 until there was a sample."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def learn(self, seconds: float) -> None:
        """Takes in one sample; one without time says nothing and is left out."""
        if not 0 < seconds < math.inf:
            return
        present = self.seconds or seconds
        sample = min(max(seconds, present / SAMPLE_BOUND), present * SAMPLE_BOUND)
        self.seconds = present + EWMA_WEIGHT * (sample - present)
