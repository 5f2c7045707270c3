"""An encoder's report says what is on its way to decoders. vLLM is imported here, but no engine starts."""

import queue
from contextlib import closing
from pathlib import Path

import pytest

from chiasm.nouns import WorkerId
from chiasm.supervisor import has_no_transfer
from chiasm.wire.fetcher import EmbeddingFetcher, FetchResult
from chiasm.wire.protocol import layout_hash
from chiasm.wire.settings import RUNTIME_VARIABLE, ConnectorSettings

pytestmark = [pytest.mark.engine, pytest.mark.timeout(600), pytest.mark.filterwarnings("default")]

PATIENCE_S = 10.0


def test_a_transfer_counts_while_it_is_under_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import msgspec
    import torch

    from encoder.connector import _Publisher

    monkeypatch.setenv(RUNTIME_VARIABLE, str(tmp_path))
    settings = ConnectorSettings(worker=WorkerId("encoder-0"), model_revision="r")
    results: queue.SimpleQueue[FetchResult] = queue.SimpleQueue()
    idle: list[bool] = []

    with closing(_Publisher(settings)) as publisher:

        def is_idle() -> bool:
            report = [{"weights": {}, "connector": publisher.counters()}]
            return has_no_transfer(msgspec.json.encode(report).decode())

        def allocate(_key: str, nbytes: int) -> bytearray:
            idle.append(is_idle())  # the header is here, and no byte has landed
            return bytearray(nbytes)

        publisher.publish("key", torch.ones(4, 8))
        assert is_idle()
        endpoint = (tmp_path / "endpoint").read_text()
        with closing(EmbeddingFetcher(settings.wire, None, settings.security, allocate)) as fetcher:
            fetcher.fetch("key", endpoint, (4, 8), "float32", layout_hash("r", "float32", 8), results.put)
            assert results.get(timeout=PATIENCE_S).ok
    assert idle == [False]
    assert is_idle()
