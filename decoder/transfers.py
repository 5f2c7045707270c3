"""What a decoder's connector tells vLLM of its transfers, by vLLM's own hooks: for its log, `/metrics` and plugins.

They are noted where embeddings are fetched, in the scheduler process, and go with the next step's statistics to the API
server, as plain lists: what is sent between the two is read without its types.
"""

from collections.abc import Mapping
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any

import msgspec
from prometheus_client import Counter, Histogram
from vllm.distributed.ec_transfer.ec_connector.metrics import ECConnectorPromMetrics, ECConnectorStats

from chiasm.telemetry.engine.harmless import Harmless
from chiasm.telemetry.engine.registry import unregister
from chiasm.telemetry.engine.vllm_stats import TRANSFERS
from chiasm.telemetry.records import Transfer
from chiasm.wire.landing import FetchResult
from chiasm.wire.protocol import FailureCode, RefusalCode

if TYPE_CHECKING:
    from vllm.config import VllmConfig

_BUCKETS_S = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 60.0)


class Transfers:
    """What has been fetched since it was last asked."""

    def __init__(self) -> None:
        self._ended: SimpleQueue[Transfer] = SimpleQueue()

    def note(self, result: FetchResult, now: float) -> None:
        """A fetch has ended, now (unix seconds). For any thread."""
        failure = "" if result.code is None else str(result.code)
        self._ended.put(Transfer(result.key, now - result.seconds, now, result.nbytes, failure))

    def take(self) -> "TransferStats":
        """Those that nobody has taken yet."""
        taken = []
        while True:
            try:
                taken.append(msgspec.to_builtins(self._ended.get_nowait()))
            except Empty:
                return TransferStats({TRANSFERS: taken})


class TransferStats(ECConnectorStats):
    """Transfers, the latest last."""

    data: dict[str, Any]

    def __init__(self, data: dict[str, Any] | None = None) -> None:
        super().__init__(data or {TRANSFERS: []})

    def reset(self) -> None:
        """Forget them."""
        self.data = {TRANSFERS: []}

    def aggregate(self, other: ECConnectorStats) -> ECConnectorStats:
        """These and those of another."""
        self.data[TRANSFERS] += other.data[TRANSFERS]
        return self

    def reduce(self) -> dict[str, int | float]:
        """For the log."""
        transfers = _read(self.data)
        landed = [each for each in transfers if not each.failure]
        return {
            "Embeddings fetched": len(landed),
            "failed": len(transfers) - len(landed),
            "MB": round(sum(each.nbytes for each in landed) / 1e6, 3),
            "longest (ms)": round(1000 * max((each.ended - each.began for each in landed), default=0.0), 3),
        }

    def is_empty(self) -> bool:
        """Whether there are none."""
        return not self.data[TRANSFERS]


class TransferMetrics(ECConnectorPromMetrics):
    """Transfers in Prometheus, with the labels that vLLM gives to its own metrics."""

    def __init__(
        self,
        vllm_config: "VllmConfig",
        metric_types: Mapping[Any, Any],
        labelnames: list[str],
        per_engine_labelvalues: dict[int, list[object]],
    ) -> None:
        super().__init__(vllm_config, metric_types, labelnames, per_engine_labelvalues)
        self._harmless = Harmless("transfers of embeddings")
        unregister("chiasm_transfer_")
        about = "From when a decoder asked for an embedding until it was whole, of those that came"
        self._seconds = metric_types[Histogram](
            name="chiasm_transfer_seconds", documentation=about, labelnames=labelnames, buckets=_BUCKETS_S
        )
        about = "Bytes of embeddings that a decoder fetched"
        self._bytes = metric_types[Counter](name="chiasm_transfer_bytes", documentation=about, labelnames=labelnames)
        about = "Embeddings that a decoder could not fetch, by why"
        self._failures = metric_types[Counter](
            name="chiasm_transfer_failures", documentation=about, labelnames=[*labelnames, "code"]
        )
        for labels in per_engine_labelvalues.values():
            self._seconds.labels(*labels)
            self._bytes.labels(*labels)
            for code in (*RefusalCode, *FailureCode):
                self._failures.labels(*labels, str(code))  # shown as 0, so that the first one is seen as a rise

    def observe(self, transfer_stats_data: dict[str, Any], engine_idx: int = 0) -> None:
        """Count what one step has brought."""
        with self._harmless:
            labels = self.per_engine_labelvalues[engine_idx]
            for transfer in _read(transfer_stats_data):
                if transfer.failure:
                    self._failures.labels(*labels, transfer.failure).inc()
                else:
                    self._seconds.labels(*labels).observe(transfer.ended - transfer.began)
                    self._bytes.labels(*labels).inc(transfer.nbytes)


def _read(data: dict[str, Any]) -> list[Transfer]:
    return msgspec.convert(data[TRANSFERS], list[Transfer])


class ReportsTransfers:
    """The half of vLLM's hooks that is asked of the connector's class, in the API server."""

    @classmethod
    def build_ec_connector_stats(cls, data: dict[str, Any] | None = None) -> TransferStats:
        """What one step has brought, for the log."""
        return TransferStats(data)

    @classmethod
    def build_prom_metrics(
        cls,
        vllm_config: "VllmConfig",
        metric_types: Mapping[Any, Any],
        labelnames: list[str],
        per_engine_labelvalues: dict[int, list[object]],
    ) -> TransferMetrics:
        """What `/metrics` shows of it."""
        return TransferMetrics(vllm_config, metric_types, labelnames, per_engine_labelvalues)
