"""The core's own time. Imports only the standard library."""

import math


class Clock:
    """Seconds since the first `advance`: the sum of all advances. A step back counts as no time at all."""

    def __init__(self) -> None:
        self.now = 0.0
        self._last = math.inf  # so that the first one only starts the clock

    def advance(self, now: float) -> None:
        """It is `now` on a clock of which only the advance counts."""
        if now > self._last:
            self.now += now - self._last
        self._last = now
