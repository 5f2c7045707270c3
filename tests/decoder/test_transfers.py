"""How transfers reach a decoder's API server, in vLLM's own messages. vLLM is imported here, but no engine starts."""

import time
from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest
from prometheus_client import REGISTRY, CollectorRegistry, Counter, Gauge, Histogram

from chiasm.nouns import WorkerId
from chiasm.telemetry.engine.registry import unregister
from chiasm.telemetry.engine.vllm_stats import transfers_of
from chiasm.telemetry.records import Transfer
from chiasm.wire.landing import FetchResult
from chiasm.wire.protocol import FailureCode, RefusalCode
from chiasm.wire.settings import RUNTIME_VARIABLE, ConnectorSettings

pytestmark = [pytest.mark.engine, pytest.mark.timeout(600), pytest.mark.filterwarnings("default")]

NOW = 1000.0
CAME = FetchResult("key", ok=True, nbytes=4096, seconds=0.25)
FAILED = FetchResult("lost", ok=False, nbytes=0, seconds=2.0, code=RefusalCode.MISSING, detail="evicted")


def stats(*results: FetchResult) -> Any:
    """What a step that follows these fetches gets to say."""
    from decoder.transfers import Transfers

    transfers = Transfers()
    for result in results:
        transfers.note(result, NOW)
    return transfers.take()


def sent(data: dict[str, Any]) -> Any:
    """A step's statistics as vLLM sends them to its API server."""
    from vllm.v1.engine import EngineCoreOutputs
    from vllm.v1.metrics.stats import SchedulerStats
    from vllm.v1.serial_utils import MsgpackDecoder, MsgpackEncoder

    outputs = EngineCoreOutputs(scheduler_stats=SchedulerStats(ec_connector_stats=data))
    return MsgpackDecoder(EngineCoreOutputs).decode(MsgpackEncoder().encode(outputs)).scheduler_stats


def test_a_transfer_is_told_of_once_with_its_times_its_bytes_and_its_failure() -> None:
    from decoder.transfers import Transfers

    transfers = Transfers()
    transfers.note(CAME, NOW)
    transfers.note(FAILED, NOW + 1)
    assert transfers_of(sent(transfers.take().data)) == [
        Transfer("key", NOW - 0.25, NOW, 4096),
        Transfer("lost", NOW - 1, NOW + 1, 0, "missing"),
    ]
    assert transfers.take().is_empty()


def test_steps_are_put_together_for_the_log() -> None:
    from decoder.transfers import ReportsTransfers

    together = ReportsTransfers.build_ec_connector_stats(sent(stats(CAME, FAILED).data).ec_connector_stats)
    together = together.aggregate(ReportsTransfers.build_ec_connector_stats(stats(CAME).data))
    assert together.reduce() == {"Embeddings fetched": 2, "failed": 1, "MB": 0.008, "longest (ms)": 250.0}
    together.reset()
    assert together.is_empty()


def test_metrics_have_seconds_and_bytes_of_what_came_and_the_reasons_of_what_failed() -> None:
    from decoder.transfers import ReportsTransfers

    registry = CollectorRegistry()
    kinds = {kind: partial(kind, registry=registry) for kind in (Gauge, Counter, Histogram)}
    metrics = ReportsTransfers.build_prom_metrics(
        SimpleNamespace(ec_transfer_config=None), kinds, ["model_name", "engine"], {0: ["m", "0"]}
    )

    def value(name: str, **labels: str) -> float | None:
        return registry.get_sample_value(name, {"model_name": "m", "engine": "0", **labels})

    for code in (*RefusalCode, *FailureCode):
        assert value("chiasm_transfer_failures_total", code=str(code)) == 0
    metrics.observe(stats(CAME, CAME, FAILED).data)
    assert value("chiasm_transfer_seconds_count") == 2
    assert value("chiasm_transfer_seconds_sum") == 0.5
    assert value("chiasm_transfer_bytes_total") == 8192
    assert value("chiasm_transfer_failures_total", code="missing") == 1
    metrics.observe({"renamed": "by another version"})  # vLLM asks in the task that hands out all answers
    metrics.observe(stats(CAME).data)
    assert value("chiasm_transfer_seconds_count") == 3


def test_vllm_may_make_its_metrics_anew() -> None:
    """As when it gets more engines, in one process and one registry."""
    from decoder.transfers import ReportsTransfers

    kinds = {kind: kind for kind in (Gauge, Counter, Histogram)}
    for engines in (1, 2):
        of_each = {index: ["m", str(index)] for index in range(engines)}
        metrics = ReportsTransfers.build_prom_metrics(
            SimpleNamespace(ec_transfer_config=None), kinds, ["model_name", "engine"], of_each
        )
    try:
        metrics.observe(stats(CAME).data, engine_idx=1)
        assert REGISTRY.get_sample_value("chiasm_transfer_bytes_total", {"model_name": "m", "engine": "1"}) == 4096
    finally:
        unregister("chiasm_transfer_")


def test_vllm_asks_our_connector() -> None:
    """The hooks are on the class that vLLM loads, and before those of its base."""
    from decoder.connector import FetchingConnector
    from decoder.transfers import TransferStats

    assert isinstance(FetchingConnector.build_ec_connector_stats(stats(CAME).data), TransferStats)


def test_a_fetch_is_noted_on_the_thread_that_fetches(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """At once: a step that would look for it may be long in coming."""
    from decoder.connector import _Fetches

    monkeypatch.setenv(RUNTIME_VARIABLE, str(tmp_path))
    fetches = _Fetches(ConnectorSettings(worker=WorkerId("w"), model_revision="r"), "float32", covered_counts=True)
    try:
        before = time.time()
        fetches._on_result(CAME)
        after = time.time()
        [transfer] = transfers_of(sent(fetches.transfers.take().data))
    finally:
        fetches.close()
    assert before <= transfer.ended <= after
    assert transfer.ended - transfer.began == pytest.approx(CAME.seconds)
