"""Where one request's time went, phase by phase."""

import time

from chiasm.telemetry.metrics import GatewayMetrics


class Timing:
    """The phases of one request since its arrival, in seconds of the monotonic clock.

    ``fetch`` (only where images lie at web addresses), ``parse`` (the body and its images), ``encode_wait`` (submitted,
    no encoder yet), ``encode`` (once an item), ``decode_wait`` (every embedding known, or text only; no decoder yet),
    ``decode_first`` (posted, until the first token; streams only), ``decode`` (posted, until the answer is complete).
    Repeated attempts repeat their phases.
    """

    def __init__(self, metrics: GatewayMetrics) -> None:
        self.arrived = time.monotonic()
        self._metrics = metrics
        self._phases: list[tuple[str, float]] = []

    def end(self, phase: str, began: float) -> float:
        """`phase` lasted from `began` until now; returns for how long."""
        seconds = time.monotonic() - began
        self._phases.append((phase, seconds))
        self._metrics.phases.labels(phase).observe(seconds)
        return seconds

    def first_token(self) -> None:
        """The client gets its first token now."""
        self._metrics.first_token.observe(time.monotonic() - self.arrived)

    def server_timing(self) -> str:
        """The phases so far as the value of a `Server-Timing` header, in milliseconds."""
        return ", ".join(f"{phase};dur={seconds * 1000:.1f}" for phase, seconds in self._phases)
