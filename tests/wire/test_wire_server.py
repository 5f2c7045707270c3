"""The server against readers that are slow, dead, greedy, or talk nonsense."""

from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from wire_helpers import LAYOUT, RawConsumer, Tensor, WaitingFetcher, wait_until

from chiasm.config import WireConfig
from chiasm.wire import sending
from chiasm.wire.protocol import MAX_CONTROL_BYTES, Abandon, Chunk, Credit, Fetch, Header, RefusalCode, Refused, encode
from chiasm.wire.server import EmbeddingServer
from chiasm.wire.store import EmbeddingStore, StoreFull

Opened = Callable[[Any], Any]
Serve = Callable[..., EmbeddingServer]
CHUNK = 4096


@pytest.fixture
def tensor(store: EmbeddingStore) -> Tensor:
    tensor = Tensor.random("a", 70)
    store.publish(tensor.key, tensor.payload, tensor.shape, tensor.dtype, LAYOUT)
    return tensor


@pytest.fixture
def server(serve: Serve) -> EmbeddingServer:
    return serve()


@pytest.fixture
def reader(server: EmbeddingServer, opened: Opened) -> RawConsumer:
    return opened(RawConsumer(server.endpoint))


def test_the_header_comes_first_and_tells_the_truth(reader: RawConsumer, tensor: Tensor) -> None:
    reader.ask(tensor, transfer=5)
    assert reader.hear() == (tensor.header(5, CHUNK), b"")


def test_no_more_comes_than_credit_was_given(reader: RawConsumer, tensor: Tensor) -> None:
    """The item has 18 chunks. A refusal that was asked for last marks the end of what came without more credit."""
    reader.ask(tensor, window=3)
    heard = [reader.hear()[0] for _ in range(4)]
    assert [type(frame) for frame in heard] == [Header, Chunk, Chunk, Chunk]
    reader.say(Credit(1, 2))
    assert [reader.hear()[0] for _ in range(2)] == [Chunk(1, 3), Chunk(1, 4)]
    reader.ask(Tensor.random("none", 1), transfer=2)
    assert isinstance(reader.hear()[0], Refused)


def test_the_servers_window_bounds_a_greedy_reader(reader: RawConsumer, tensor: Tensor, config: WireConfig) -> None:
    reader.ask(tensor, window=1000)
    for _ in range(1 + config.window_chunks):
        reader.hear()
    reader.ask(Tensor.random("none", 1), transfer=2)
    assert isinstance(reader.hear()[0], Refused)


def test_all_chunks_come_in_order(reader: RawConsumer, server: EmbeddingServer, tensor: Tensor) -> None:
    reader.ask(tensor)
    reader.hear()
    chunks = []
    for _ in range(18):
        chunks.append(reader.hear())
        reader.say(Credit(1, 1))
    assert [frame.index for frame, _ in chunks] == list(range(18))
    assert b"".join(payload for _, payload in chunks) == tensor.payload
    wait_until(lambda: server.stats.transfers == 1)


def test_a_reader_without_credit_holds_nobody_up(
    reader: RawConsumer, server: EmbeddingServer, tensor: Tensor, fetcher: WaitingFetcher
) -> None:
    reader.ask(tensor, window=1)
    reader.hear()
    for _ in range(3):
        assert fetcher.fetch(tensor, server.endpoint).ok
    assert server.stats.dropped == 0


def test_a_reader_that_never_reads_costs_bounded_memory_and_holds_nobody_up(
    server: EmbeddingServer, store: EmbeddingStore, serve: Serve, tmp_path: Any, opened: Opened
) -> None:
    large = WireConfig(chunk_bytes=256 << 10, window_chunks=2)
    tensor = Tensor.random("large", 512)
    store.publish(tensor.key, tensor.payload, tensor.shape, tensor.dtype, LAYOUT)
    server = serve(f"ipc://{tmp_path}/large", config=large)
    deaf = opened(RawConsumer(server.endpoint, rcvhwm=1, rcvbuf=4096))
    for transfer in range(60):
        deaf.ask(tensor, transfer, window=2, chunk_bytes=256 << 10)
    fetcher = opened(WaitingFetcher(large))
    for _ in range(20):
        assert fetcher.fetch(tensor, server.endpoint).ok
    wait_until(lambda: server.stats.transfers == 20)
    queued = server.stats.bytes - 20 * len(tensor.payload)
    assert queued < 60 * 2 * (256 << 10) / 3, "its credit alone would allow three times as much"


def test_a_refusal_waits_for_room_in_the_readers_queue(
    serve: Serve, store: EmbeddingStore, tmp_path: Any, opened: Opened
) -> None:
    large = WireConfig(chunk_bytes=256 << 10, window_chunks=2)
    tensor = Tensor.random("large", 512)
    store.publish(tensor.key, tensor.payload, tensor.shape, tensor.dtype, LAYOUT)
    server = serve(f"ipc://{tmp_path}/large", config=large)
    slow = opened(RawConsumer(server.endpoint, rcvhwm=1, rcvbuf=4096))
    for transfer in range(60):
        slow.ask(tensor, transfer, window=2, chunk_bytes=256 << 10)
    others = opened(WaitingFetcher(large))
    assert others.fetch(tensor, server.endpoint).ok  # by now the queue is full
    slow.ask(Tensor.random("none", 1), transfer=60)
    wait_until(lambda: server.stats.refused[RefusalCode.MISSING] == 1)
    assert others.fetch(tensor, server.endpoint).ok  # several turns of the server, in which it still is
    heard = [slow.hear()[0] for _ in range(60 * 3 + 1)]
    assert [frame.transfer for frame in heard if isinstance(frame, Refused)] == [60]


def test_an_idle_reader_is_dropped_and_its_item_let_go(
    serve: Serve, store: EmbeddingStore, config: WireConfig, tensor: Tensor, tmp_path: Any, opened: Opened
) -> None:
    impatient = serve(f"ipc://{tmp_path}/i", config=config.model_copy(update={"transfer_timeout_s": 0.05}))
    reader = opened(RawConsumer(impatient.endpoint))
    reader.ask(tensor, window=1)
    wait_until(lambda: impatient.stats.dropped == 1)
    reader.hear()
    reader.hear()
    reader.say(Credit(1, 1))  # stale by now
    reader.ask(Tensor.random("none", 1), transfer=2)
    assert isinstance(reader.hear()[0], Refused)


def test_a_transfer_is_open_from_its_header_until_its_end(
    reader: RawConsumer, server: EmbeddingServer, tensor: Tensor
) -> None:
    assert server.open == 0
    reader.ask(tensor, transfer=1)
    reader.ask(tensor, transfer=2)
    reader.ask(Tensor.random("none", 1), transfer=3)  # refused
    wait_until(lambda: server.open == 2)
    reader.say(Abandon(1))
    wait_until(lambda: server.open == 1)
    acknowledged = 0
    while acknowledged < 18:
        frame, _ = reader.hear()
        if isinstance(frame, Chunk) and frame.transfer == 2:
            assert server.open == 1
            reader.say(Credit(2, 1))
            acknowledged += 1
    wait_until(lambda: server.open == 0)


def test_an_open_transfer_pins_its_item_until_it_is_abandoned(
    opened: Opened, tmp_path: Any, config: WireConfig
) -> None:
    store = EmbeddingStore(100 << 10, lease_s=1e-9, on_evict=lambda key: None)
    first, second = Tensor.random("a", 70), Tensor.random("b", 70)
    server = opened(EmbeddingServer(store, f"ipc://{tmp_path}/p", config))
    server.start()
    store.publish("a", first.payload, first.shape, "float32", LAYOUT)
    reader = opened(RawConsumer(server.endpoint))
    reader.ask(first, transfer=0, layout="another")  # refused, so it pins nothing
    assert reader.hear()[0].code is RefusalCode.LAYOUT_MISMATCH
    reader.ask(first, window=1)
    reader.hear()
    with pytest.raises(StoreFull):
        store.publish("b", second.payload, second.shape, "float32", LAYOUT)
    reader.say(Abandon(1))
    wait_until(lambda: server.stats.abandoned == 1)
    store.publish("b", second.payload, second.shape, "float32", LAYOUT)
    assert "a" not in store


def test_a_reader_that_vanished_is_let_go_of(server: EmbeddingServer, tensor: Tensor) -> None:
    reader = RawConsumer(server.endpoint, rcvhwm=1)
    for transfer in range(64):
        reader.ask(tensor, transfer, window=4)
    reader.hear()
    reader.close()
    wait_until(lambda: server.stats.dropped > 0)


def test_too_many_transfers_of_one_reader_are_refused_as_busy(
    server: EmbeddingServer, reader: RawConsumer, tensor: Tensor, fetcher: WaitingFetcher
) -> None:
    for transfer in range(sending.MAX_OPEN_PER_PEER + 1):
        reader.ask(tensor, transfer, window=1)
    heard = [reader.hear()[0] for _ in range(2 * sending.MAX_OPEN_PER_PEER + 1)]
    refused = [frame for frame in heard if isinstance(frame, Refused)]
    assert [(frame.transfer, frame.code) for frame in refused] == [(sending.MAX_OPEN_PER_PEER, RefusalCode.BUSY)]
    assert fetcher.fetch(tensor, server.endpoint).ok
    reader.say(Abandon(0))
    reader.ask(tensor, 1000, window=1)
    assert isinstance(reader.hear()[0], Header)


def test_too_many_transfers_in_all_are_refused_as_busy(
    server: EmbeddingServer,
    reader: RawConsumer,
    tensor: Tensor,
    fetcher: WaitingFetcher,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sending, "MAX_OPEN", 1)
    reader.ask(tensor, window=1)
    reader.hear()
    assert fetcher.fetch(tensor, server.endpoint).code is RefusalCode.BUSY


def test_another_version_is_refused_by_name(reader: RawConsumer, tensor: Tensor) -> None:
    reader.ask(tensor, version=2)
    refused, _ = reader.hear()
    assert (refused.code, refused.transfer, refused.key) == (RefusalCode.VERSION_MISMATCH, 1, "a")


def test_a_transfer_number_used_twice_is_malformed(reader: RawConsumer, tensor: Tensor) -> None:
    reader.ask(tensor, window=1)
    reader.hear()
    reader.hear()
    reader.ask(tensor, window=1)
    assert reader.hear()[0].code is RefusalCode.MALFORMED
    reader.say(Credit(1, 1))
    assert reader.hear()[0] == Chunk(1, 1)


def test_credit_for_what_was_never_sent_ends_the_transfer(reader: RawConsumer, tensor: Tensor) -> None:
    reader.ask(tensor, window=1)
    reader.hear()
    reader.hear()
    reader.say(Credit(1, 2))
    assert reader.hear()[0].code is RefusalCode.MALFORMED
    reader.ask(tensor)
    assert isinstance(reader.hear()[0], Header)


def test_readers_do_not_touch_each_others_transfers(
    server: EmbeddingServer, reader: RawConsumer, tensor: Tensor, opened: Opened
) -> None:
    reader.ask(tensor, window=1)
    reader.hear()
    reader.hear()
    other = opened(RawConsumer(server.endpoint))
    other.say(Abandon(1))
    other.say(Credit(1, 1))
    other.ask(tensor, transfer=1)
    assert isinstance(other.hear()[0], Header)
    reader.say(Credit(1, 1))
    assert reader.hear()[0] == Chunk(1, 1)


def test_a_huge_request_only_ends_its_own_connection(
    server: EmbeddingServer, reader: RawConsumer, tensor: Tensor, fetcher: WaitingFetcher
) -> None:
    reader.socket.send(bytes(MAX_CONTROL_BYTES + 1))
    assert reader.disconnected()
    assert fetcher.fetch(tensor, server.endpoint).ok
    assert server.stats.malformed == 0, "it was not even taken in"


VALID = [
    encode(Fetch(1, LAYOUT, "a", 3, 2, CHUNK)),
    encode(Credit(3, 1)),
    encode(Abandon(3)),
    encode(Chunk(3, 1)),
    msgspec.msgpack.encode([[[]]] * 3),
]


@st.composite
def garbage(draw: st.DrawFn) -> bytes:
    """Random bytes, or a valid frame with some bytes exchanged or cut off."""
    if draw(st.booleans()):
        return draw(st.binary(max_size=200))
    frame = bytearray(draw(st.sampled_from(VALID)))
    for position in draw(st.lists(st.integers(0, len(frame) - 1), max_size=4)):
        frame[position] = draw(st.integers(0, 255))
    return bytes(frame[: draw(st.integers(0, len(frame)))])


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(messages=st.lists(st.lists(garbage(), min_size=1, max_size=3), max_size=10))
def test_garbage_costs_nothing_but_itself(
    messages: list[list[bytes]], server: EmbeddingServer, reader: RawConsumer, tensor: Tensor, fetcher: WaitingFetcher
) -> None:
    before = server.stats.malformed
    for frames in messages:
        reader.socket.send_multipart(frames)
    reader.socket.send(b"certainly garbage")
    assert fetcher.fetch(tensor, server.endpoint).ok
    assert fetcher.has(tensor)
    wait_until(lambda: server.stats.malformed > before)
