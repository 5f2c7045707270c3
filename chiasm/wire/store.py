"""The producer's bounded host store of embeddings: what is held, what is pinned, what may go.

Owns references to the payloads, never a copy of them. Thread safe: the engine publishes, the server's thread reads.
Must not import ZeroMQ or torch.

An item is *leased* from its publication until its first complete fetch, or until `lease_s` have passed: so long the
answer that names it may still be on its way to a decoder. Afterwards it is an ordinary cache entry, and the most
recently used one: a second request for the same image is likeliest soon. A fetch that fails leaves the lease alone,
since the reader may come again. An item is *pinned* while a transfer reads it. Leased or pinned items are not evicted.
"""

import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from blake3 import blake3

from chiasm.wire.protocol import CHECKSUM_BYTES, RefusalCode, tensor_nbytes

if TYPE_CHECKING:
    from typing_extensions import Buffer

REFUSALS_REMEMBERED = 4096


class StoreFull(RuntimeError):
    """There is no room, and not enough of what is held may go."""


class Refusal(NamedTuple):
    """Why a key is not available."""

    code: RefusalCode
    detail: str


class StoredEmbedding:
    """One embedding: read-only bytes of a contiguous tensor of `shape` and `dtype`."""

    def __init__(self, key: str, payload: memoryview, shape: tuple[int, ...], dtype: str, layout: str) -> None:
        self.key = key
        self.payload = payload
        self.shape = shape
        self.dtype = dtype
        self.layout = layout
        self._hasher: blake3 | None = blake3()
        self._hashed = 0
        self._checksum = b""

    def hash_some(self, nbytes: int) -> bytes | None:
        """Hash up to `nbytes` more; the checksum once all are hashed, else None. For the server's thread alone.

        The checksum is computed once an item, in steps, so that a large item does not hold up other transfers.
        """
        if self._hasher is not None:
            self._hasher.update(self.payload[self._hashed : self._hashed + nbytes])
            self._hashed += nbytes
            if self._hashed < self.payload.nbytes:
                return None
            self._checksum = self._hasher.digest(CHECKSUM_BYTES)
            self._hasher = None
        return self._checksum


class _Entry:
    def __init__(self, item: StoredEmbedding, leased_until: float) -> None:
        self.item = item
        self.leased_until = leased_until
        self.pins = 0


class EmbeddingStore:
    """Embeddings by key, least recently used out first, within `capacity_bytes`.

    `on_evict(key)` is called for each item that went, on the thread that published, outside the store's lock.
    """

    def __init__(
        self,
        capacity_bytes: int,
        lease_s: float,
        on_evict: Callable[[str], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._capacity = capacity_bytes
        self._lease_s = lease_s
        self._on_evict = on_evict
        self._clock = clock
        self._lock = threading.Lock()
        self._entries: OrderedDict[str, _Entry] = OrderedDict()  # least recently used first
        self._refusals: OrderedDict[str, Refusal] = OrderedDict()  # oldest first
        self._nbytes = 0

    def __contains__(self, key: str) -> bool:
        with self._lock:
            return key in self._entries

    def __len__(self) -> int:
        with self._lock:
            return len(self._entries)

    @property
    def nbytes(self) -> int:
        """Bytes held."""
        with self._lock:
            return self._nbytes

    def publish(self, key: str, payload: "Buffer", shape: tuple[int, ...], dtype: str, layout: str) -> None:
        """Hold an embedding under a lease. A key that is held already keeps its payload: equal keys, equal embeddings.

        `payload` is C-contiguous and is not copied: it must not change any more, not even after its eviction, since a
        socket may still read it. It is freed with its last reference. `layout` is from `layout_hash`.

        Raises:
            ValueError: `payload` is not contiguous or does not fit `shape` and `dtype`, or the tensor has no element.
            StoreFull: no room; nothing was evicted for it.
        """
        item = StoredEmbedding(key, _bytes_of(payload, tensor_nbytes(shape, dtype)), shape, dtype, layout)
        with self._lock:
            victims = [] if self._renew(key) else self._insert(item)
        for victim in victims:
            self._on_evict(victim)

    def renew(self, key: str) -> bool:
        """Lease `key` anew, as if it were just published; False if it is not held."""
        with self._lock:
            return self._renew(key)

    def refuse(self, key: str, code: RefusalCode, detail: str) -> None:
        """Remember why `key` will not be published; the oldest reasons are forgotten."""
        with self._lock:
            self._refusals[key] = Refusal(code, detail)
            self._refusals.move_to_end(key)
            if len(self._refusals) > REFUSALS_REMEMBERED:
                self._refusals.popitem(last=False)

    def refusal(self, key: str) -> Refusal:
        """Why `key` is not held."""
        with self._lock:
            return self._refusals.get(key, Refusal(RefusalCode.MISSING, "never published here, or evicted"))

    def pin(self, key: str) -> StoredEmbedding | None:
        """The item, kept from eviction until as many `unpin`; None if it is not held."""
        with self._lock:
            entry = self._entries.get(key)
            if entry is None:
                return None
            entry.pins += 1
            self._entries.move_to_end(key)
            return entry.item

    def unpin(self, key: str, fetched: bool) -> None:
        """Take back one `pin`. `fetched`: the reader has all of it, which ends the lease."""
        with self._lock:
            entry = self._entries[key]
            entry.pins -= 1
            if fetched:
                entry.leased_until = self._clock()
            self._entries.move_to_end(key)

    def _renew(self, key: str) -> bool:
        entry = self._entries.get(key)
        if entry is None:
            return False
        entry.leased_until = self._clock() + self._lease_s
        self._entries.move_to_end(key)
        return True

    def _insert(self, item: StoredEmbedding) -> list[str]:
        victims = self._choose_victims(self._nbytes + item.payload.nbytes - self._capacity)
        for victim in victims:
            self._nbytes -= self._entries.pop(victim).item.payload.nbytes
        self._entries[item.key] = _Entry(item, self._clock() + self._lease_s)
        self._nbytes += item.payload.nbytes
        self._refusals.pop(item.key, None)
        return victims

    def _choose_victims(self, needed: int) -> list[str]:
        victims = []
        now = self._clock()
        for key, entry in self._entries.items():
            if needed <= 0:
                break
            if entry.pins == 0 and entry.leased_until <= now:
                victims.append(key)
                needed -= entry.item.payload.nbytes
        if needed > 0:
            held = f"of {self._capacity} bytes {self._nbytes} are held"
            raise StoreFull(f"{held}, and what is neither leased nor pinned is {needed} too few")
        return victims


def _bytes_of(payload: "Buffer", nbytes: int) -> memoryview:
    view = memoryview(payload)
    if not view.c_contiguous or view.nbytes != nbytes:
        raise ValueError(f"the payload has {view.nbytes} bytes in its view, the tensor {nbytes}; it must be contiguous")
    return view.toreadonly().cast("B")
