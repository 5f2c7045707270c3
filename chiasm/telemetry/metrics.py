"""What a gateway counts, in a Prometheus registry of its own. Names start with `chiasm_`, units are base units, labels
take few values and never a request's id. Imports nothing of Chiasm but its version.
"""

from collections.abc import Iterable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

from chiasm import __version__

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600)
_GAPS = (0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1, 2.5, 5, 7.5, 10, 20, 40, 80)
"""As vLLM's inter-token latencies have them."""


class GatewayMetrics:
    """The metrics of one gateway. `outcomes`: under which requests will be counted."""

    content_type = CONTENT_TYPE_LATEST

    def __init__(self, outcomes: Iterable[str]) -> None:
        self._registry = CollectorRegistry()
        self.requests = Counter("chiasm_requests", "Requests by how they ended", ["outcome"], registry=self._registry)
        self.in_flight = Gauge("chiasm_requests_in_flight", "Requests being served", registry=self._registry)
        self.retries = Counter(
            "chiasm_retries", "Attempts that failed and may be repeated", ["phase"], registry=self._registry
        )
        # A counter that is born at 1 has not increased, as far as Prometheus can tell.
        for outcome in outcomes:
            self.requests.labels(outcome)
        for phase in ("encode", "decode"):
            self.retries.labels(phase)
        self.first_token = Histogram(
            "chiasm_time_to_first_token_seconds",
            "From a streaming request's arrival to its first token",
            ["images"],
            buckets=_SECONDS,
            registry=self._registry,
        )
        self.request_seconds = Histogram(
            "chiasm_request_seconds",
            "From an answered request's arrival to the end of its answer",
            ["images"],
            buckets=_SECONDS,
            registry=self._registry,
        )
        self.output_tokens = Counter("chiasm_output_tokens", "Tokens of answers", ["images"], registry=self._registry)
        self.stream_gaps = Histogram(
            "chiasm_stream_gap_seconds",
            "Between two deliveries of tokens to a streaming client",
            buckets=_GAPS,
            registry=self._registry,
        )
        self.phases = Histogram(
            "chiasm_phase_seconds",
            "Time that one request spent in one phase",
            ["phase"],
            buckets=_SECONDS,
            registry=self._registry,
        )
        self.loop_lag = Histogram(
            "chiasm_loop_lag_seconds",
            "How late the gateway's event loop was, four times a second",
            buckets=_SECONDS,
            registry=self._registry,
        )
        build = Gauge("chiasm_build_info", "1, of this version", ["version"], registry=self._registry)
        build.labels(__version__).set(1)
        ProcessCollector(registry=self._registry)

    def exposition(self) -> bytes:
        """The current values in Prometheus' text format (`content_type`)."""
        return generate_latest(self._registry)
