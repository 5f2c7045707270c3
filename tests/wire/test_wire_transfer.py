"""Real servers and real fetchers, over every transport."""

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest
import zmq
from wire_helpers import RawConsumer, RawProducer, Tensor, WaitingFetcher, wait_until

from chiasm.config import WireConfig
from chiasm.wire.keys import ClusterKeys, KeysError
from chiasm.wire.protocol import FailureCode, RefusalCode
from chiasm.wire.server import EmbeddingServer
from chiasm.wire.store import EmbeddingStore

Opened = Callable[[Any], Any]
Serve = Callable[..., EmbeddingServer]
TCP = "tcp://127.0.0.1:*"
UNHEARD = (FailureCode.UNREACHABLE, FailureCode.DEADLINE)


def publish(store: EmbeddingStore, tensor: Tensor, layout: str = "layout-of-the-tests") -> Tensor:
    store.publish(tensor.key, tensor.payload, tensor.shape, tensor.dtype, layout)
    return tensor


@pytest.fixture
def tensor(store: EmbeddingStore) -> Tensor:
    """Published; 18 chunks, the last one not full."""
    return publish(store, Tensor.random("a", 70))


@pytest.mark.parametrize("policy", ["auto", "curve"])
@pytest.mark.parametrize("transport", ["ipc", "tcp"])
def test_an_embedding_arrives_as_it_was(
    transport: str,
    policy: Any,
    ipc: str,
    keys: ClusterKeys,
    serve: Serve,
    config: WireConfig,
    tensor: Tensor,
    opened: Opened,
) -> None:
    server = serve(ipc if transport == "ipc" else TCP, keys, policy)
    fetcher = opened(WaitingFetcher(config, keys, policy))
    for _ in range(2):
        result = fetcher.fetch(tensor, server.endpoint)
        assert (result.key, result.ok, result.nbytes, result.code) == ("a", True, len(tensor.payload), None)
        assert fetcher.has(tensor)
    wait_until(lambda: server.stats.transfers == 2)
    assert server.stats.bytes == 2 * len(tensor.payload)
    assert server.stats.as_dict()["transfers"] == 2


@pytest.mark.parametrize("tokens", [1, 4, 8, 9])
def test_sizes_around_one_chunk_arrive(
    tokens: int, serve: Serve, store: EmbeddingStore, fetcher: WaitingFetcher
) -> None:
    tensor = publish(store, Tensor.random("a", tokens))
    assert fetcher.fetch(tensor, serve().endpoint).ok
    assert fetcher.has(tensor)


def test_many_at_once_all_arrive(serve: Serve, store: EmbeddingStore, fetcher: WaitingFetcher) -> None:
    server = serve()
    tensors = [publish(store, Tensor.random(f"item {i}", 20 + i)) for i in range(80)]
    for tensor in tensors:
        fetcher.start(tensor, server.endpoint)
    results = [fetcher.answer() for _ in tensors]
    assert all(result.ok for result in results), results
    assert {result.key for result in results} == {tensor.key for tensor in tensors}
    assert all(fetcher.has(tensor) for tensor in tensors)


def test_each_of_many_readers_gets_its_own(
    serve: Serve, store: EmbeddingStore, config: WireConfig, opened: Opened
) -> None:
    server = serve()
    tensors = [publish(store, Tensor.random(f"item {i}", 50)) for i in range(4)]
    fetchers = [opened(WaitingFetcher(config)) for _ in tensors]
    for fetcher, tensor in zip(fetchers, tensors, strict=True):
        fetcher.start(tensor, server.endpoint)
    assert all(fetcher.answer().ok for fetcher in fetchers)
    assert all(fetcher.has(tensor) for fetcher, tensor in zip(fetchers, tensors, strict=True))


def test_a_fetched_item_may_be_evicted(serve: Serve, fetcher: WaitingFetcher) -> None:
    gone: list[str] = []
    store = EmbeddingStore(100 << 10, lease_s=3600, on_evict=gone.append)
    tensor = publish(store, Tensor.random("a", 70))
    server = EmbeddingServer(store, TCP, WireConfig(chunk_bytes=4096))
    server.start()
    try:
        assert fetcher.fetch(tensor, server.endpoint).ok
        wait_until(lambda: server.stats.transfers == 1)
        publish(store, Tensor.random("b", 70))
        assert gone == ["a"]
    finally:
        server.close()


def test_the_sides_may_want_different_chunks(serve: Serve, config: WireConfig, tensor: Tensor, opened: Opened) -> None:
    endpoint = serve(config=config.model_copy(update={"chunk_bytes": 6000, "window_chunks": 7})).endpoint
    for chunk_bytes in (4096, 9999):
        fetcher = opened(WaitingFetcher(config.model_copy(update={"chunk_bytes": chunk_bytes, "window_chunks": 1})))
        assert fetcher.fetch(tensor, endpoint).ok
        assert fetcher.has(tensor)


def test_a_missing_item_is_an_answer(serve: Serve, fetcher: WaitingFetcher) -> None:
    server = serve()
    result = fetcher.fetch(Tensor.random("none", 3), server.endpoint)
    assert (result.ok, result.code, result.nbytes) == (False, RefusalCode.MISSING, 0)
    assert server.stats.refused == {RefusalCode.MISSING: 1}
    assert server.stats.as_dict()["refused_missing"] == 1
    assert fetcher.landed.buffers == {}


def test_the_producers_reason_arrives(serve: Serve, store: EmbeddingStore, fetcher: WaitingFetcher) -> None:
    store.refuse("bad", RefusalCode.NOT_FINITE, "NaN " * 1000)
    result = fetcher.fetch(Tensor.random("bad", 3), serve().endpoint)
    assert result.code is RefusalCode.NOT_FINITE
    assert result.detail.startswith("NaN NaN")


def test_another_layout_is_refused_by_name(serve: Serve, tensor: Tensor, fetcher: WaitingFetcher) -> None:
    server = serve()
    result = fetcher.fetch(tensor, server.endpoint, layout="another")
    assert result.code is RefusalCode.LAYOUT_MISMATCH
    assert "another" in result.detail
    assert server.stats.refused == {RefusalCode.LAYOUT_MISMATCH: 1}
    assert fetcher.fetch(tensor, server.endpoint).ok


def test_another_shape_than_the_descriptors_is_a_failure(serve: Serve, tensor: Tensor, fetcher: WaitingFetcher) -> None:
    lie = dataclasses.replace(tensor, tokens=71)
    result = fetcher.fetch(lie, serve().endpoint)
    assert result.code is FailureCode.PROTOCOL
    assert fetcher.landed.buffers == {}


@pytest.mark.parametrize("transport", ["ipc", "tcp"])
def test_strangers_get_nothing(
    transport: str, ipc: str, keys: ClusterKeys, serve: Serve, hasty: WireConfig, tensor: Tensor, opened: Opened
) -> None:
    server = serve(ipc if transport == "ipc" else TCP, keys, "curve")
    other = ClusterKeys.generate()
    not_a_member = dataclasses.replace(keys, client_public=other.client_public, client_secret=other.client_secret)
    for fetcher in (
        WaitingFetcher(hasty, not_a_member, "curve"),
        WaitingFetcher(hasty, other, "curve"),
        WaitingFetcher(hasty, None, "auto"),
    ):
        result = opened(fetcher).fetch(tensor, server.endpoint)
        assert result.code in UNHEARD
        assert fetcher.landed.buffers == {}
    assert server.stats.bytes == 0
    assert opened(WaitingFetcher(hasty, keys, "curve")).fetch(tensor, server.endpoint).ok


def test_a_stranger_without_a_key_hears_nothing(
    keys: ClusterKeys, serve: Serve, tensor: Tensor, opened: Opened
) -> None:
    stranger = opened(RawConsumer(serve(TCP, keys, "curve").endpoint))
    stranger.ask(tensor)
    stranger.socket.rcvtimeo = 100
    with pytest.raises(zmq.Again):
        stranger.hear()


def test_missing_keys_are_named(serve: Serve, config: WireConfig, tensor: Tensor, fetcher: WaitingFetcher) -> None:
    with pytest.raises(KeysError):
        serve("tcp://0.0.0.0:*")
    with pytest.raises(KeysError):
        WaitingFetcher(config, None, "curve")
    result = fetcher.fetch(tensor, "tcp://10.255.255.1:7")
    assert result.code is FailureCode.UNREACHABLE
    assert "no cluster keys" in result.detail


@pytest.mark.parametrize("endpoint", ["", "nonsense", "ipc://", "tcp://127.0.0.1"])
def test_an_impossible_endpoint_is_a_failure(
    endpoint: str, keys: ClusterKeys, config: WireConfig, opened: Opened
) -> None:
    result = opened(WaitingFetcher(config, keys)).fetch(Tensor.random("a", 1), endpoint)
    assert result.code is FailureCode.UNREACHABLE


def test_a_producer_that_is_not_there_is_reported_at_once(ipc: str, hasty: WireConfig, opened: Opened) -> None:
    assert opened(WaitingFetcher(hasty)).fetch(Tensor.random("a", 1), ipc).code is FailureCode.UNREACHABLE


def test_a_producer_that_dies_is_noticed_at_once(ipc: str, fetcher: WaitingFetcher) -> None:
    tensor = Tensor.random("a", 70)
    dying = RawProducer(ipc)
    fetcher.start(tensor, ipc)
    transfer = dying.hear().transfer
    dying.say(tensor.header(transfer, 4096))
    wait_until(lambda: "a" in fetcher.landed.buffers)
    dying.close()
    assert fetcher.answer().code is FailureCode.UNREACHABLE


def test_a_producer_that_came_back_is_fetched_from_again(serve: Serve, tensor: Tensor, fetcher: WaitingFetcher) -> None:
    server = serve()
    assert fetcher.fetch(tensor, server.endpoint).ok
    server.close()
    successor = serve()
    results = [fetcher.fetch(tensor, successor.endpoint) for _ in range(2)]
    assert results[-1].ok, "at most the first may still have met the broken connection"


def test_closing_either_end_twice_is_harmless(serve: Serve, config: WireConfig) -> None:
    server = serve()
    fetcher = WaitingFetcher(config)
    for thing in (server, fetcher):
        thing.close()
        thing.close()
    with pytest.raises(RuntimeError, match="closed"):
        fetcher.start(Tensor.random("a", 1), server.endpoint)
    with pytest.raises(RuntimeError, match="closed"):
        fetcher.fetcher.cancel("a")


def test_a_server_that_cannot_bind_leaves_nothing(serve: Serve, store: EmbeddingStore, config: WireConfig) -> None:
    taken = serve(TCP).endpoint
    second = EmbeddingServer(store, taken, config)
    with pytest.raises(zmq.ZMQError):
        second.start()
    second.close()


def test_a_closed_server_frees_its_endpoint_and_its_pins(
    store: EmbeddingStore, config: WireConfig, tensor: Tensor, opened: Opened
) -> None:
    server = EmbeddingServer(store, TCP, config)
    endpoint = server.start()
    reader = opened(RawConsumer(endpoint))
    reader.ask(tensor, window=1)
    reader.hear()
    server.close()
    assert server.stats.dropped == 1
    again = opened(EmbeddingServer(store, endpoint, config))
    assert again.start() == endpoint
