"""One embedding on its way into a consumer's buffer: what it must look like, and what has landed of it.

Owns the view of the buffer while bytes may arrive. Knows neither sockets nor threads; for the fetcher's thread alone.
Nothing that a producer says is believed: it must agree with the descriptor that the scheduler vouches for.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from blake3 import blake3

from chiasm.config import WireConfig
from chiasm.wire.protocol import CHECKSUM_BYTES, FailureCode, Header, RefusalCode, tensor_nbytes

if TYPE_CHECKING:
    from typing_extensions import Buffer

Allocate = Callable[[str, int], "Buffer"]
"""`allocate(key, nbytes)`: a writable contiguous buffer of exactly `nbytes`, or an exception if there is no room."""


@dataclass(frozen=True)
class FetchResult:
    """How one fetch ended. `code` and `detail` say why if it is not `ok`; `seconds` count from the call of `fetch`."""

    key: str
    ok: bool
    nbytes: int
    seconds: float
    code: RefusalCode | FailureCode | None = None
    detail: str = ""


class LandingFailed(Exception):
    """This landing cannot be completed."""

    def __init__(self, code: RefusalCode | FailureCode, detail: str) -> None:
        super().__init__(detail)
        self.code = code
        self.detail = detail


class Landing:
    """The expected tensor, then its header, then its chunks in order."""

    def __init__(self, key: str, shape: tuple[int, ...], dtype: str, layout: str, config: WireConfig) -> None:
        self.key = key
        self.shape = shape
        self.dtype = dtype
        self.layout = layout
        self._max_bytes = config.max_item_bytes
        self._max_chunk_bytes = config.chunk_bytes
        self.nbytes = 0
        self._view: memoryview | None = None
        self._landed = 0
        self._chunks = 0
        self._chunk_bytes = 0
        self._checksum = b""
        self._hasher = blake3()

    @property
    def complete(self) -> bool:
        """Whether every byte has landed."""
        return self._view is not None and self._landed == self.nbytes

    def check_descriptor(self) -> None:
        """Whether such a tensor is accepted at all.

        Raises:
            LandingFailed: it is too large, or no tensor that travels.
        """
        try:
            self.nbytes = tensor_nbytes(self.shape, self.dtype)
        except ValueError as error:
            raise LandingFailed(FailureCode.PROTOCOL, str(error)) from error
        if self.nbytes > self._max_bytes:
            detail = f"{self.nbytes} bytes exceed the limit of {self._max_bytes}"
            raise LandingFailed(RefusalCode.TOO_LARGE, detail)

    def announce(self, header: Header, allocate: Allocate) -> None:
        """Take the header: reserve the buffer if it keeps to the descriptor.

        Raises:
            LandingFailed: it does not, it is the second one, or there is no buffer.
        """
        self._check_header(header)
        try:
            view = memoryview(allocate(self.key, self.nbytes))
        except Exception as error:
            detail = f"no buffer of {self.nbytes} bytes: {type(error).__name__}: {error}"
            raise LandingFailed(FailureCode.NO_MEMORY, detail) from error
        if view.readonly or not view.c_contiguous or view.nbytes != self.nbytes:
            view.release()
            raise LandingFailed(FailureCode.NO_MEMORY, f"the buffer is not {self.nbytes} writable contiguous bytes")
        self._view = view.cast("B")
        self._chunk_bytes = header.chunk_bytes
        self._checksum = header.checksum

    def land(self, index: int, payload: memoryview) -> None:
        """Write the next chunk to where it belongs.

        Raises:
            LandingFailed: no header came before it, or it is not the next one, or not of the announced size; or it was
                the last one and the checksum is wrong.
        """
        if self._view is None:
            raise LandingFailed(FailureCode.PROTOCOL, f"chunk {index} came before the header")
        if index != self._chunks:
            raise LandingFailed(FailureCode.PROTOCOL, f"chunk {index} came when {self._chunks} was next")
        size = min(self._chunk_bytes, self.nbytes - self._landed)
        if payload.nbytes != size:
            raise LandingFailed(FailureCode.PROTOCOL, f"chunk {index} has {payload.nbytes} bytes instead of {size}")
        target = self._view[self._landed : self._landed + size]
        target[:] = payload
        # What is hashed is what landed, not what arrived.
        self._hasher.update(target)
        target.release()
        self._landed += size
        self._chunks += 1
        if self.complete and self._hasher.digest(CHECKSUM_BYTES) != self._checksum:
            raise LandingFailed(FailureCode.CHECKSUM, f"the {self.nbytes} bytes that landed are not those announced")

    def release(self) -> None:
        """Let go of the buffer; nothing is written to it any more."""
        if self._view is not None:
            self._view.release()
            self._view = None

    def _check_header(self, header: Header) -> None:
        if self._view is not None:
            raise LandingFailed(FailureCode.PROTOCOL, "a second header came")
        if header.layout != self.layout:
            detail = f"the producer's layout is {header.layout}, ours is {self.layout}"
            raise LandingFailed(RefusalCode.LAYOUT_MISMATCH, detail)
        announced = (header.key, header.shape, header.dtype, header.nbytes)
        expected = (self.key, self.shape, self.dtype, self.nbytes)
        if announced != expected:
            raise LandingFailed(FailureCode.PROTOCOL, f"announced {announced}, the descriptor says {expected}")
        if header.chunk_bytes > self._max_chunk_bytes:
            detail = f"chunks of {header.chunk_bytes} bytes exceed the {self._max_chunk_bytes} asked for"
            raise LandingFailed(FailureCode.PROTOCOL, detail)
