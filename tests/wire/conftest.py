"""Fixtures of the wire's tests. No test may leave a thread behind; sockets left open are warnings, and so errors."""

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import pytest
from wire_helpers import WaitingFetcher

from chiasm.config import WireConfig
from chiasm.wire.keys import ClusterKeys, Policy
from chiasm.wire.server import EmbeddingServer
from chiasm.wire.store import EmbeddingStore

PYZMQ_COLLECTOR = "GarbageCollectorThread"  # one a process, for good


@pytest.fixture(autouse=True)
def no_thread_left() -> Iterator[None]:
    before = set(threading.enumerate())
    yield
    left = [t for t in threading.enumerate() if t not in before and type(t).__name__ != PYZMQ_COLLECTOR]
    assert not left


@pytest.fixture
def config() -> WireConfig:
    """Small chunks, so that a small tensor takes many; patience that a passing test does not use up."""
    return WireConfig(chunk_bytes=4096, window_chunks=4, max_item_bytes=1 << 20, transfer_timeout_s=20)


@pytest.fixture
def hasty(config: WireConfig) -> WireConfig:
    """For transfers that are meant to fail by their deadline."""
    return config.model_copy(update={"transfer_timeout_s": 0.15})


@pytest.fixture(scope="session")
def keys() -> ClusterKeys:
    return ClusterKeys.generate()


@pytest.fixture
def store() -> EmbeddingStore:
    return EmbeddingStore(capacity_bytes=8 << 20, lease_s=60, on_evict=lambda key: None)


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


@pytest.fixture
def opened(stack: ExitStack) -> Callable[[Any], Any]:
    """Hands a thing back and closes it after the test."""
    return lambda thing: stack.enter_context(closing(thing))


@pytest.fixture
def ipc(tmp_path: Path) -> str:
    return f"ipc://{tmp_path}/s"


@pytest.fixture
def serve(store: EmbeddingStore, config: WireConfig, ipc: str, opened: Callable[[Any], Any]) -> Callable[..., Any]:
    """Start a server; by default plain, at an ipc endpoint."""

    def start(
        endpoint: str = ipc,
        keys: ClusterKeys | None = None,
        policy: Policy = "auto",
        config: WireConfig = config,
    ) -> EmbeddingServer:
        server = opened(EmbeddingServer(store, endpoint, config, keys, policy))
        server.start()
        return server

    return start


@pytest.fixture
def fetcher(config: WireConfig, opened: Callable[[Any], Any]) -> WaitingFetcher:
    return opened(WaitingFetcher(config))
