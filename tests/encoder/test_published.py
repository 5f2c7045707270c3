"""What an encoder says of what it gave away. vLLM is imported here, but no engine starts."""

from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest
from prometheus_client import REGISTRY, CollectorRegistry, Counter, Gauge, Histogram

from chiasm.telemetry.engine.registry import unregister

pytestmark = [pytest.mark.engine, pytest.mark.timeout(600), pytest.mark.filterwarnings("default")]


def published(*sizes: int) -> Any:
    """What a step gets to say after items of these bytes were published."""
    from encoder.published import PublishedStats

    stats = PublishedStats()
    for size in sizes:
        stats.count(size)
    return stats


def test_what_was_published_is_told_once() -> None:
    stats = published(100, 50)
    assert stats.take().data == {"items": 2, "bytes": 150}
    assert stats.take().is_empty()
    stats.count(7)
    assert stats.take().data == {"items": 1, "bytes": 7}


def test_steps_are_put_together_for_the_log() -> None:
    from encoder.connector import PublishingConnector

    first, second = (
        PublishingConnector.build_ec_connector_stats(published(*sizes).data) for sizes in ((1000,), (500,))
    )
    assert first.aggregate(second).reduce() == {"Embeddings published": 2, "MB": 0.002}


def test_metrics_have_items_and_bytes() -> None:
    from encoder.connector import PublishingConnector

    registry = CollectorRegistry()
    kinds = {kind: partial(kind, registry=registry) for kind in (Gauge, Counter, Histogram)}
    config = SimpleNamespace(ec_transfer_config=None)
    metrics = PublishingConnector.build_prom_metrics(config, kinds, ["model_name", "engine"], {0: ["m", "0"]})
    labels = {"model_name": "m", "engine": "0"}
    assert registry.get_sample_value("chiasm_published_embeddings_total", labels) == 0
    metrics.observe(published(100, 50).data)
    assert registry.get_sample_value("chiasm_published_embeddings_total", labels) == 2
    assert registry.get_sample_value("chiasm_published_bytes_total", labels) == 150
    metrics.observe({"renamed": "by another version"})  # vLLM asks in the task that hands out all answers
    metrics.observe(published(50).data)
    assert registry.get_sample_value("chiasm_published_bytes_total", labels) == 200


def test_vllm_may_make_its_metrics_anew() -> None:
    """As when it gets more engines, in one process and one registry."""
    from encoder.connector import PublishingConnector

    kinds = {kind: kind for kind in (Gauge, Counter, Histogram)}
    config = SimpleNamespace(ec_transfer_config=None)
    for engines in (1, 2):
        of_each = {index: ["m", str(index)] for index in range(engines)}
        metrics = PublishingConnector.build_prom_metrics(config, kinds, ["model_name", "engine"], of_each)
    try:
        metrics.observe(published(100).data, engine_idx=1)
        assert REGISTRY.get_sample_value("chiasm_published_bytes_total", {"model_name": "m", "engine": "1"}) == 100
    finally:
        unregister("chiasm_published_")
