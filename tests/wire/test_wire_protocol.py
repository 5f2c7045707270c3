import msgspec
import pytest

from chiasm.wire import protocol
from chiasm.wire.protocol import Abandon, Chunk, Credit, Fetch, Header, RefusalCode, Refused, layout_hash, tensor_nbytes

FETCH = Fetch(version=1, layout="l", key="k", transfer=7, window=2, chunk_bytes=4096)
HEADER = Header(7, "k", "l", (3, 4), "float32", 48, 4096, checksum=b"c" * 16)


@pytest.mark.parametrize("frame", [FETCH, Credit(7, 2), Abandon(7)])
def test_what_a_consumer_says_is_understood(frame: protocol.FromConsumer) -> None:
    assert protocol.decode_from_consumer(protocol.encode(frame)) == frame


@pytest.mark.parametrize("frame", [HEADER, Chunk(7, 0), Refused(7, "k", RefusalCode.BUSY, "why")])
def test_what_a_producer_says_is_understood(frame: protocol.FromProducer) -> None:
    assert protocol.decode_from_producer(protocol.encode(frame)) == frame


@pytest.mark.parametrize(
    "frame",
    [
        b"",
        b"\x80\x04N.",  # a pickle
        protocol.encode(HEADER),
        protocol.encode(msgspec.structs.replace(FETCH, key="")),
        protocol.encode(msgspec.structs.replace(FETCH, key="k" * 513)),
        protocol.encode(msgspec.structs.replace(FETCH, window=0)),
        protocol.encode(msgspec.structs.replace(FETCH, chunk_bytes=-1)),
        protocol.encode(Credit(7, 0)),
        msgspec.msgpack.encode(["Fetch", 1]),
        msgspec.msgpack.encode({"type": "Fetch"}),
        b"\x93\xa6Credit\x07\xa1\xff",
        b"\x92\xa1\xff\x01",
        b"\x91" * 10_000,
    ],
)
def test_what_makes_no_sense_from_a_consumer_is_refused(frame: bytes) -> None:
    with pytest.raises(msgspec.DecodeError):
        protocol.decode_from_consumer(frame)


@pytest.mark.parametrize(
    "changes",
    [{"shape": (0, 4)}, {"shape": (1,) * 9}, {"nbytes": 0}, {"chunk_bytes": 0}, {"checksum": b"short"}, {"key": ""}],
)
def test_an_impossible_header_is_refused(changes: dict[str, object]) -> None:
    with pytest.raises(msgspec.DecodeError):
        protocol.decode_from_producer(protocol.encode(msgspec.structs.replace(HEADER, **changes)))


def test_the_version_of_a_longer_fetch_can_still_be_read() -> None:
    later = msgspec.msgpack.encode(["Fetch", 9, "l", "k", 7, 2, 4096, "something new"])
    fetch = protocol.decode_from_consumer(later)
    assert isinstance(fetch, Fetch)
    assert fetch.version == 9


def test_a_layout_is_named_by_everything_that_makes_it() -> None:
    assert layout_hash("r", "float16", 8) == layout_hash("r", "float16", 8)
    others = [layout_hash("s", "float16", 8), layout_hash("r", "bfloat16", 8), layout_hash("r", "float16", 9)]
    assert len({layout_hash("r", "float16", 8), *others}) == 4


def test_another_wire_version_is_another_layout(monkeypatch: pytest.MonkeyPatch) -> None:
    before = layout_hash("r", "float16", 8)
    monkeypatch.setattr(protocol, "WIRE_VERSION", 2)
    assert layout_hash("r", "float16", 8) != before


@pytest.mark.parametrize(
    ("shape", "dtype", "nbytes"), [((3, 4), "float32", 48), ((3, 4), "bfloat16", 24), ((5,), "float8_e4m3fn", 5)]
)
def test_size_of_a_tensor(shape: tuple[int, ...], dtype: str, nbytes: int) -> None:
    assert tensor_nbytes(shape, dtype) == nbytes


@pytest.mark.parametrize(
    ("shape", "dtype"), [((3, 4), "object"), ((0, 4), "float32"), ((), "float32"), ((-1, -4), "int8")]
)
def test_what_is_no_tensor_has_no_size(shape: tuple[int, ...], dtype: str) -> None:
    with pytest.raises(ValueError, match=r"dtype|no element"):
        tensor_nbytes(shape, dtype)
