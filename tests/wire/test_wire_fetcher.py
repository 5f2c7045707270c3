"""The fetcher against producers that lie, fall silent, or talk nonsense."""

import contextlib
from collections.abc import Callable
from contextlib import closing
from typing import Any

import msgspec
import pytest
import zmq
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from wire_helpers import LAYOUT, RawProducer, Tensor, WaitingFetcher, wait_until

from chiasm.config import WireConfig
from chiasm.wire import connection
from chiasm.wire import fetcher as fetcher_module
from chiasm.wire.protocol import (
    WIRE_VERSION,
    Abandon,
    Chunk,
    Credit,
    FailureCode,
    Fetch,
    RefusalCode,
    Refused,
    decode_from_producer,
    encode,
)

Opened = Callable[[Any], Any]
CHUNK = 4096
TENSOR = Tensor.random("a", 18)  # four chunks and a half


@pytest.fixture
def producer(ipc: str, opened: Opened) -> RawProducer:
    return opened(RawProducer(ipc))


@pytest.fixture
def transfer(producer: RawProducer, fetcher: WaitingFetcher) -> int:
    """TENSOR has been asked for; its transfer's number."""
    fetcher.start(TENSOR, producer.endpoint)
    return producer.hear().transfer


def send_all(producer: RawProducer, tensor: Tensor, transfer: int) -> None:
    producer.say(tensor.header(transfer, CHUNK))
    for index in range(-(-len(tensor.payload) // CHUNK)):
        producer.say(Chunk(transfer, index), tensor.chunk(index, CHUNK))


def prove_alive(producer: RawProducer, fetcher: WaitingFetcher) -> None:
    """Another transfer on the same connection succeeds."""
    other = Tensor.random("other", 9)
    fetcher.start(other, producer.endpoint)
    while not isinstance(fetch := producer.hear(), Fetch):
        pass
    send_all(producer, other, fetch.transfer)
    assert fetcher.answer().ok
    assert fetcher.has(other)


def test_it_asks_for_what_was_ordered(producer: RawProducer, fetcher: WaitingFetcher, config: WireConfig) -> None:
    fetcher.start(TENSOR, producer.endpoint)
    assert producer.hear() == Fetch(WIRE_VERSION, LAYOUT, "a", 1, config.window_chunks, config.chunk_bytes)


def test_every_chunk_is_acknowledged(producer: RawProducer, fetcher: WaitingFetcher, transfer: int) -> None:
    send_all(producer, TENSOR, transfer)
    assert fetcher.answer().ok
    assert [producer.hear() for _ in range(3)] == [Credit(transfer, 2), Credit(transfer, 2), Credit(transfer, 1)]


LIES = {
    "shape": {"shape": (256, 18)},
    "one dimension": {"shape": (18 * 256,)},
    "dtype": {"dtype": "int8"},
    "too many bytes": {"nbytes": 1 << 62},
    "too few bytes": {"nbytes": 1},
    "key": {"key": "b"},
    "huge chunks": {"chunk_bytes": CHUNK + 1},
}


@pytest.mark.parametrize("lie", LIES.values(), ids=LIES.keys())
def test_a_header_that_lies_fails_before_anything_is_allocated(
    producer: RawProducer, fetcher: WaitingFetcher, transfer: int, lie: dict[str, Any]
) -> None:
    producer.say(msgspec.structs.replace(TENSOR.header(transfer, CHUNK), **lie))
    assert fetcher.answer().code is FailureCode.PROTOCOL
    assert fetcher.landed.buffers == {}
    assert producer.hear() == Abandon(transfer)
    prove_alive(producer, fetcher)


def test_a_header_of_another_layout_is_refused_by_name(
    producer: RawProducer, fetcher: WaitingFetcher, transfer: int
) -> None:
    producer.say(msgspec.structs.replace(TENSOR.header(transfer, CHUNK), layout="another"))
    result = fetcher.answer()
    assert result.code is RefusalCode.LAYOUT_MISMATCH
    assert "another" in result.detail


def test_a_wrong_checksum_fails_after_the_last_byte(
    producer: RawProducer, fetcher: WaitingFetcher, transfer: int
) -> None:
    producer.say(TENSOR.header(transfer, CHUNK))
    for index in range(5):
        payload = bytearray(TENSOR.chunk(index, CHUNK))
        if index == 3:
            payload[100] ^= 1
        producer.say(Chunk(transfer, index), bytes(payload))
    assert fetcher.answer().code is FailureCode.CHECKSUM
    heard = [producer.hear() for _ in range(3)]
    assert heard == [Credit(transfer, 2), Credit(transfer, 2), Abandon(transfer)], "the last chunk is not acknowledged"
    prove_alive(producer, fetcher)


Script = Callable[[RawProducer, int], None]


def repeated(producer: RawProducer, transfer: int) -> None:
    producer.say(Chunk(transfer, 0), TENSOR.chunk(0, CHUNK))


def skipped(producer: RawProducer, transfer: int) -> None:
    producer.say(Chunk(transfer, 2), TENSOR.chunk(2, CHUNK))


def oversized(producer: RawProducer, transfer: int) -> None:
    producer.say(Chunk(transfer, 1), bytes(CHUNK + 1))


def undersized(producer: RawProducer, transfer: int) -> None:
    producer.say(Chunk(transfer, 1), bytes(CHUNK - 1))


def without_payload(producer: RawProducer, transfer: int) -> None:
    producer.say(Chunk(transfer, 1))


def with_two_payloads(producer: RawProducer, transfer: int) -> None:
    producer.say(Chunk(transfer, 1), bytes(CHUNK), bytes(CHUNK))


def second_header(producer: RawProducer, transfer: int) -> None:
    producer.say(TENSOR.header(transfer, CHUNK))


def refusal_of_another_key(producer: RawProducer, transfer: int) -> None:
    producer.say(Refused(transfer, "b", RefusalCode.MISSING, ""))


@pytest.mark.parametrize(
    "crime",
    [
        repeated,
        skipped,
        oversized,
        undersized,
        without_payload,
        with_two_payloads,
        second_header,
        refusal_of_another_key,
    ],
)
def test_a_broken_protocol_is_a_named_failure(
    producer: RawProducer, fetcher: WaitingFetcher, transfer: int, crime: Script
) -> None:
    producer.say(TENSOR.header(transfer, CHUNK))
    producer.say(Chunk(transfer, 0), TENSOR.chunk(0, CHUNK))
    crime(producer, transfer)
    assert fetcher.answer().code is FailureCode.PROTOCOL
    assert producer.hear() == Abandon(transfer)
    prove_alive(producer, fetcher)


def test_a_chunk_before_the_header_is_a_named_failure(
    producer: RawProducer, fetcher: WaitingFetcher, transfer: int
) -> None:
    producer.say(Chunk(transfer, 0), TENSOR.chunk(0, CHUNK))
    assert fetcher.answer().code is FailureCode.PROTOCOL


def test_what_belongs_to_no_transfer_is_counted_and_ignored(
    producer: RawProducer, fetcher: WaitingFetcher, transfer: int
) -> None:
    producer.say(Chunk(transfer + 1, 0), bytes(CHUNK))
    producer.say(Refused(transfer + 2, "a", RefusalCode.MISSING, ""))
    producer.say_bytes(b"garbage")
    send_all(producer, TENSOR, transfer)
    assert fetcher.answer().ok
    producer.say(Chunk(transfer, 5), bytes(CHUNK))  # it is over
    prove_alive(producer, fetcher)
    assert (fetcher.fetcher.stats.stray, fetcher.fetcher.stats.malformed) == (3, 1)


def test_another_producer_cannot_answer_for_the_first(
    producer: RawProducer, fetcher: WaitingFetcher, transfer: int, ipc: str, opened: Opened
) -> None:
    other = opened(RawProducer(f"{ipc}2"))
    fetcher.start(Tensor.random("b", 9), other.endpoint)
    other.hear()
    other.say(Refused(transfer, "a", RefusalCode.MISSING, ""))
    wait_until(lambda: fetcher.fetcher.stats.stray == 1)
    send_all(producer, TENSOR, transfer)
    assert fetcher.answer().ok


@pytest.mark.parametrize(
    ("tensor", "code"),
    [
        (Tensor("big", (1 << 20) // 1024 + 1, b""), RefusalCode.TOO_LARGE),
        (Tensor("empty", 0, b""), FailureCode.PROTOCOL),
        (Tensor("odd", 1, b"", dtype="object"), FailureCode.PROTOCOL),
    ],
)
def test_a_descriptor_beyond_the_limits_is_not_even_asked_for(
    producer: RawProducer, fetcher: WaitingFetcher, tensor: Tensor, code: Any
) -> None:
    assert fetcher.fetch(tensor, producer.endpoint).code is code
    prove_alive(producer, fetcher)


def no_room(key: str, nbytes: int) -> bytearray:
    raise MemoryError("full")


@pytest.mark.parametrize(
    "allocate",
    [no_room, lambda key, n: bytes(n), lambda key, n: bytearray(n - 1), lambda key, n: None],
    ids=["raises", "read-only", "too small", "no buffer"],
)
def test_no_buffer_is_a_named_failure(producer: RawProducer, config: WireConfig, opened: Opened, allocate: Any) -> None:
    fetcher = opened(WaitingFetcher(config, allocate=allocate))
    fetcher.start(TENSOR, producer.endpoint)
    transfer = producer.hear().transfer
    producer.say(TENSOR.header(transfer, CHUNK))
    assert fetcher.answer().code is FailureCode.NO_MEMORY
    assert producer.hear() == Abandon(transfer)


@pytest.mark.parametrize(
    ("order", "flip", "code"),
    [
        ((0, 1, 2, 3, 4), 0, None),
        ((0, 1, 2, 3, 4), 1, FailureCode.CHECKSUM),
        ((0, 1, 3), 0, FailureCode.PROTOCOL),
    ],
)
def test_the_buffer_is_let_go_of_before_the_answer(
    producer: RawProducer, config: WireConfig, opened: Opened, order: tuple[int, ...], flip: int, code: Any
) -> None:
    buffer = bytearray(len(TENSOR.payload))
    fetcher = opened(WaitingFetcher(config, allocate=lambda key, nbytes: buffer))
    freed = []

    def done(result: Any) -> None:
        fetcher.answers.put(result)
        buffer.clear()  # a BufferError while anybody holds a view
        freed.append(result.code)

    fetcher.fetcher.fetch("a", producer.endpoint, TENSOR.shape, TENSOR.dtype, LAYOUT, done)
    transfer = producer.hear().transfer
    producer.say(TENSOR.header(transfer, CHUNK))
    for index in order:
        payload = bytearray(TENSOR.chunk(index, CHUNK))
        payload[0] ^= flip
        producer.say(Chunk(transfer, index), bytes(payload))
    fetcher.answer()
    fetcher.close()
    assert freed == [code]


def test_a_callback_that_fails_harms_nobody(producer: RawProducer, fetcher: WaitingFetcher) -> None:
    def fail(result: Any) -> None:
        raise RuntimeError("callback")

    fetcher.fetcher.fetch("a", producer.endpoint, TENSOR.shape, TENSOR.dtype, LAYOUT, fail)
    producer.hear()
    producer.say(Refused(1, "a", RefusalCode.MISSING, ""))
    prove_alive(producer, fetcher)


def test_a_callback_may_fetch_again(producer: RawProducer, fetcher: WaitingFetcher) -> None:
    def again(result: Any) -> None:
        fetcher.start(TENSOR, producer.endpoint)

    fetcher.fetcher.fetch("a", producer.endpoint, TENSOR.shape, TENSOR.dtype, LAYOUT, again)
    producer.hear()
    producer.say(Refused(1, "a", RefusalCode.MISSING, ""))
    while not isinstance(fetch := producer.hear(), Fetch):
        pass
    send_all(producer, TENSOR, fetch.transfer)
    assert fetcher.answer().ok


def test_silence_costs_the_deadline_and_no_more(producer: RawProducer, hasty: WireConfig, opened: Opened) -> None:
    fetcher = opened(WaitingFetcher(hasty))
    for tensor in (TENSOR, Tensor.random("b", 9)):
        fetcher.start(tensor, producer.endpoint)
    first, second = producer.hear(), producer.hear()
    producer.say(TENSOR.header(first.transfer, CHUNK))
    results = [fetcher.answer() for _ in range(2)]
    assert [(result.key, result.code) for result in results] == [
        ("a", FailureCode.DEADLINE),
        ("b", FailureCode.DEADLINE),
    ]
    assert [producer.hear() for _ in range(2)] == [Abandon(first.transfer), Abandon(second.transfer)]


def test_a_cancelled_fetch_is_answered(producer: RawProducer, fetcher: WaitingFetcher, transfer: int) -> None:
    fetcher.fetcher.cancel("nothing")
    fetcher.fetcher.cancel("a")
    assert fetcher.answer().code is FailureCode.CANCELLED
    assert producer.hear() == Abandon(transfer)
    fetcher.start(TENSOR, producer.endpoint)
    again = producer.hear()
    assert again.transfer != transfer
    send_all(producer, TENSOR, again.transfer)
    assert fetcher.answer().ok


def test_closing_answers_what_is_under_way(producer: RawProducer, fetcher: WaitingFetcher, transfer: int) -> None:
    for _ in range(40):
        fetcher.start(TENSOR, producer.endpoint)
    fetcher.close()
    assert [fetcher.answer().code for _ in range(41)] == [FailureCode.CLOSED] * 41


def test_only_so_many_are_asked_of_one_producer_at_once(producer: RawProducer, fetcher: WaitingFetcher) -> None:
    for number in range(connection.MAX_ACTIVE + 2):
        fetcher.start(Tensor.random(str(number), 9), producer.endpoint)
    asked = [producer.hear() for _ in range(connection.MAX_ACTIVE)]
    assert producer.socket.poll(0) == 0
    producer.say(Refused(asked[5].transfer, "5", RefusalCode.MISSING, ""))
    assert fetcher.answer().key == "5"
    assert producer.hear() == Abandon(asked[5].transfer)
    assert producer.hear().key == str(connection.MAX_ACTIVE)
    fetcher.fetcher.cancel(str(connection.MAX_ACTIVE + 1))
    assert fetcher.answer().code is FailureCode.CANCELLED


def test_too_many_fetches_are_refused_as_busy(
    producer: RawProducer, fetcher: WaitingFetcher, transfer: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetcher_module, "MAX_PENDING", 1)
    assert fetcher.fetch(Tensor.random("b", 1), producer.endpoint).code is RefusalCode.BUSY
    send_all(producer, TENSOR, transfer)
    assert fetcher.answer().ok


def test_too_many_producers_push_out_an_idle_one_or_are_busy(
    producer: RawProducer,
    fetcher: WaitingFetcher,
    transfer: int,
    ipc: str,
    opened: Opened,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(fetcher_module, "MAX_CONNECTIONS", 1)
    second = opened(RawProducer(f"{ipc}2"))
    assert fetcher.fetch(Tensor.random("b", 9), second.endpoint).code is RefusalCode.BUSY
    send_all(producer, TENSOR, transfer)
    assert fetcher.answer().ok
    prove_alive(second, fetcher)


def test_an_idle_connection_is_closed(
    producer: RawProducer, fetcher: WaitingFetcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetcher_module, "IDLE_S", 0.02)
    prove_alive(producer, fetcher)
    producer.socket.setsockopt(zmq.ROUTER_MANDATORY, 1)

    def gone() -> bool:
        try:
            producer.say(Abandon(1))
        except zmq.ZMQError as error:
            return error.errno == zmq.EHOSTUNREACH
        return False

    wait_until(gone)
    prove_alive(producer, fetcher)


def test_a_producer_that_takes_no_messages_is_given_up(
    fetcher: WaitingFetcher, ipc: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "SEND_HIGH_WATER", 2)
    for _ in range(3):
        fetcher.start(TENSOR, ipc)  # nobody listens, so the queue stays as it is
    results = [fetcher.answer() for _ in range(3)]
    assert [result.code for result in results] == [FailureCode.UNREACHABLE] * 3


FRAMES = [
    TENSOR.header(1, CHUNK),
    Chunk(1, 0),
    Refused(1, "a", RefusalCode.MISSING, "why"),
    Fetch(1, LAYOUT, "a", 1, 1, CHUNK),
]


@st.composite
def nonsense(draw: st.DrawFn) -> list[bytes]:
    """Some frames: random bytes, or valid ones for transfer 1 with some bytes exchanged or cut off."""
    frame = bytearray(encode(draw(st.sampled_from(FRAMES))))
    for position in draw(st.lists(st.integers(0, len(frame) - 1), max_size=4)):
        frame[position] = draw(st.integers(0, 255))
    control = draw(st.one_of(st.binary(max_size=100), st.just(bytes(frame[: draw(st.integers(0, len(frame)))]))))
    return [control, *draw(st.lists(st.binary(max_size=CHUNK), max_size=2))]


def named(messages: list[list[bytes]]) -> set[int]:
    """The transfers that these messages name."""
    transfers = set()
    for control, *_ in messages:
        with contextlib.suppress(msgspec.DecodeError):
            transfers.add(decode_from_producer(control).transfer)
    return transfers


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(messages=st.lists(nonsense(), max_size=6))
def test_nonsense_harms_at_most_the_transfer_that_it_names(
    messages: list[list[bytes]], config: WireConfig, ipc: str
) -> None:
    other = Tensor.random("other", 9)
    with closing(RawProducer(ipc)) as producer, closing(WaitingFetcher(config)) as fetcher:
        fetcher.start(TENSOR, producer.endpoint)
        assert producer.hear().transfer == 1
        for frames in messages:
            producer.say_bytes(*frames)
        fetcher.start(other, producer.endpoint)
        while not (isinstance(fetch := producer.hear(), Fetch) and fetch.key == "other"):
            pass
        send_all(producer, other, fetch.transfer)
        send_all(producer, TENSOR, 1)
        results = {result.key: result for result in (fetcher.answer(), fetcher.answer())}
        for tensor, transfer in ((TENSOR, 1), (other, fetch.transfer)):
            assert results[tensor.key].ok or transfer in named(messages)
            assert not results[tensor.key].ok or fetcher.has(tensor)
