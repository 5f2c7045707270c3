"""What an encoder's connector tells vLLM of what it has published, by vLLM's own hooks: for its log and `/metrics`.

Counted in the scheduler process, when a request has its answer: what is counted in a worker reaches nobody where vLLM
runs its V1 model runner.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from prometheus_client import Counter
from vllm.distributed.ec_transfer.ec_connector.metrics import ECConnectorPromMetrics, ECConnectorStats

from chiasm.telemetry.engine.harmless import Harmless
from chiasm.telemetry.engine.registry import unregister

if TYPE_CHECKING:
    from vllm.config import VllmConfig

_ITEMS = "items"
_BYTES = "bytes"


class PublishedStats(ECConnectorStats):
    """How many embeddings were published, and their bytes."""

    data: dict[str, Any]

    def __init__(self, data: dict[str, Any] | None = None) -> None:
        super().__init__(data or {_ITEMS: 0, _BYTES: 0})

    def count(self, nbytes: int) -> None:
        """One more."""
        self.data[_ITEMS] += 1
        self.data[_BYTES] += nbytes

    def take(self) -> "PublishedStats":
        """Those that nobody has taken yet."""
        taken = PublishedStats(self.data)
        self.reset()
        return taken

    def reset(self) -> None:
        """Forget them."""
        self.data = {_ITEMS: 0, _BYTES: 0}

    def aggregate(self, other: ECConnectorStats) -> ECConnectorStats:
        """These and those of another."""
        for name, value in other.data.items():
            self.data[name] += value
        return self

    def reduce(self) -> dict[str, int | float]:
        """For the log."""
        return {"Embeddings published": self.data[_ITEMS], "MB": round(self.data[_BYTES] / 1e6, 3)}

    def is_empty(self) -> bool:
        """Whether there are none."""
        return not self.data[_ITEMS]


class PublishedMetrics(ECConnectorPromMetrics):
    """What was published in Prometheus, with the labels that vLLM gives to its own metrics."""

    def __init__(
        self,
        vllm_config: "VllmConfig",
        metric_types: Mapping[Any, Any],
        labelnames: list[str],
        per_engine_labelvalues: dict[int, list[object]],
    ) -> None:
        super().__init__(vllm_config, metric_types, labelnames, per_engine_labelvalues)
        self._harmless = Harmless("published embeddings")
        unregister("chiasm_published_")
        about = "Embeddings that an encoder's answers named: encoded for them, or still held"
        self._items = metric_types[Counter](
            name="chiasm_published_embeddings", documentation=about, labelnames=labelnames
        )
        about = "Bytes of the embeddings that an encoder's answers named"
        self._bytes = metric_types[Counter](name="chiasm_published_bytes", documentation=about, labelnames=labelnames)
        for labels in per_engine_labelvalues.values():
            self._items.labels(*labels)
            self._bytes.labels(*labels)

    def observe(self, transfer_stats_data: dict[str, Any], engine_idx: int = 0) -> None:
        """Count what one step has brought."""
        with self._harmless:
            labels = self.per_engine_labelvalues[engine_idx]
            self._items.labels(*labels).inc(transfer_stats_data[_ITEMS])
            self._bytes.labels(*labels).inc(transfer_stats_data[_BYTES])


class ReportsPublished:
    """The half of vLLM's hooks that is asked of the connector's class, in the API server."""

    @classmethod
    def build_ec_connector_stats(cls, data: dict[str, Any] | None = None) -> PublishedStats:
        """What one step has brought, for the log."""
        return PublishedStats(data)

    @classmethod
    def build_prom_metrics(
        cls,
        vllm_config: "VllmConfig",
        metric_types: Mapping[Any, Any],
        labelnames: list[str],
        per_engine_labelvalues: dict[int, list[object]],
    ) -> PublishedMetrics:
        """What `/metrics` shows of it."""
        return PublishedMetrics(vllm_config, metric_types, labelnames, per_engine_labelvalues)
