"""Every frame of the embedding transport: read this file and you know the protocol.

    consumer (DEALER) ──Fetch, Credit, Abandon──► producer (ROUTER)
    consumer ◄──Header, Chunk + payload frame, Refused── producer

A transfer is one Fetch, answered by one Header and then by all of its chunks in order, or by one Refused. The producer
has at most `window` unacknowledged chunks under way; each Credit acknowledges some. The transfer is complete when all
are acknowledged, which the consumer does for the last ones only after the checksum was right.

Frames are msgpack arrays and carry no code. A later version only appends fields to Fetch, so that its version can be
read, and refused, by every other one. Must not import torch, ZeroMQ, or the rest of `chiasm.wire`.
"""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from enum import StrEnum
from typing import Annotated

import msgspec
from blake3 import blake3
from msgspec import Meta, Struct

WIRE_VERSION = 1

MAX_CONTROL_BYTES = 16 << 10
"""Largest frame that is not payload."""

DTYPE_BYTES = {
    "float64": 8,
    "float32": 4,
    "float16": 2,
    "bfloat16": 2,
    "float8_e4m3fn": 1,
    "float8_e4m3fnuz": 1,
    "float8_e5m2": 1,
    "float8_e5m2fnuz": 1,
    "int8": 1,
    "uint8": 1,
}
"""Bytes of one element, by torch's name of the dtype."""

CHECKSUM_BYTES = 16

Key = Annotated[str, Meta(min_length=1, max_length=512)]
Name = Annotated[str, Meta(max_length=128)]
Detail = Annotated[str, Meta(max_length=1024)]
TransferId = Annotated[int, Meta(ge=0, le=(1 << 63) - 1)]
Count = Annotated[int, Meta(ge=1, le=(1 << 63) - 1)]
Index = Annotated[int, Meta(ge=0, le=(1 << 63) - 1)]


class RefusalCode(StrEnum):
    """Why a producer does not deliver."""

    MISSING = "missing"  # not in its store: never was, or evicted
    LAYOUT_MISMATCH = "layout_mismatch"  # another model revision, dtype or width
    VERSION_MISMATCH = "version_mismatch"  # another version of this protocol
    NOT_FINITE = "not_finite"  # the encoder produced NaN or infinity
    TOO_LARGE = "too_large"
    MALFORMED = "malformed"  # the consumer broke the protocol
    BUSY = "busy"  # too many transfers are open


class FailureCode(StrEnum):
    """Why a consumer gave up, beyond what a producer refuses."""

    DEADLINE = "deadline"
    CHECKSUM = "checksum"  # the bytes that landed are not those that were announced
    PROTOCOL = "protocol"  # the producer broke the protocol, or contradicts the descriptor
    NO_MEMORY = "no_memory"  # there was no buffer to land in
    UNREACHABLE = "unreachable"  # no connection can be made, or it broke
    CANCELLED = "cancelled"
    CLOSED = "closed"  # the fetcher was closed


class _Frame(Struct, frozen=True, array_like=True, tag=True):
    """Base of all frames: an array that starts with the class name."""


class Fetch(_Frame, frozen=True):
    """Deliver the embedding `key` as transfer `transfer`, an id that the consumer never uses twice."""

    version: int
    layout: Name
    key: Key
    transfer: TransferId
    window: Count  # chunks that may be under way unacknowledged
    chunk_bytes: Count  # largest chunk that the consumer takes


class Credit(_Frame, frozen=True):
    """`chunks` more have landed."""

    transfer: TransferId
    chunks: Count


class Abandon(_Frame, frozen=True):
    """The consumer gave the transfer up."""

    transfer: TransferId


class Header(_Frame, frozen=True):
    """What is about to come: `ceil(nbytes / chunk_bytes)` chunks, all but the last one full."""

    transfer: TransferId
    key: Key
    layout: Name
    shape: Annotated[tuple[Count, ...], Meta(max_length=8)]
    dtype: Name
    nbytes: Count
    chunk_bytes: Count
    checksum: Annotated[bytes, Meta(min_length=CHECKSUM_BYTES, max_length=CHECKSUM_BYTES)]  # BLAKE3 of all bytes


class Chunk(_Frame, frozen=True):
    """The next frame of this message is payload, from byte `index * chunk_bytes` on."""

    transfer: TransferId
    index: Index


class Refused(_Frame, frozen=True):
    """The transfer ends here."""

    transfer: TransferId
    key: Key
    code: RefusalCode
    detail: Detail


FromConsumer = Fetch | Credit | Abandon
FromProducer = Header | Chunk | Refused

encode = msgspec.msgpack.Encoder().encode
_from_consumer = msgspec.msgpack.Decoder(FromConsumer)
_from_producer = msgspec.msgpack.Decoder(FromProducer)


def decode_from_consumer(frame: bytes | memoryview) -> FromConsumer:
    """The frame that a consumer sent.

    Raises:
        msgspec.DecodeError: it is none.
    """
    with _named_errors():
        decoded: FromConsumer = _from_consumer.decode(frame)
    return decoded


def decode_from_producer(frame: bytes | memoryview) -> FromProducer:
    """The frame that a producer sent.

    Raises:
        msgspec.DecodeError: it is none.
    """
    with _named_errors():
        decoded: FromProducer = _from_producer.decode(frame)
    return decoded


@contextmanager
def _named_errors() -> Iterator[None]:
    # Strings that are not UTF-8, and very deep nesting, are no DecodeError to msgspec.
    try:
        yield
    except (UnicodeDecodeError, RecursionError) as error:
        raise msgspec.DecodeError(f"damaged: {error}") from error


def layout_hash(model_revision: str, dtype: str, width: int) -> str:
    """Names what embeddings mean: equal hashes may be exchanged. `width` is the embedding's, in elements."""
    return blake3(msgspec.msgpack.encode((WIRE_VERSION, model_revision, dtype, width))).hexdigest(16)


def tensor_nbytes(shape: Sequence[int], dtype: str) -> int:
    """Bytes of a contiguous tensor.

    Raises:
        ValueError: the dtype is not one that travels, or the tensor has no element.
    """
    if dtype not in DTYPE_BYTES:
        raise ValueError(f"embeddings of dtype {dtype!r} do not travel; known are {', '.join(DTYPE_BYTES)}")
    if not shape or any(extent < 1 for extent in shape):
        raise ValueError(f"a tensor of shape {tuple(shape)} has no element")
    return math.prod(shape) * DTYPE_BYTES[dtype]
