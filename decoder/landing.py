"""Host memory for landed embeddings: one file an item in the engine's runtime folder, which lies in memory.

The scheduler process writes them (one network transfer a host), every rank's worker process maps them. An item is
pinned by each request that needs it until that request has finished, because a KV pre-emption asks for it again in
mid-stream. It must not import ZeroMQ or vLLM.
"""

import mmap
import os
from collections import OrderedDict
from dataclasses import dataclass, field
from enum import Enum, auto
from pathlib import Path


class ItemState(Enum):
    """How far an item has come."""

    RESERVED = auto()  # room is set aside, nothing under way
    FETCHING = auto()
    LANDED = auto()


@dataclass
class LandedItem:
    """One embedding, or the room for it."""

    path: Path
    nbytes: int
    state: ItemState = ItemState.RESERVED
    pins: set[str] = field(default_factory=set)  # vLLM's ids of the requests that need it

    @property
    def evictable(self) -> bool:
        """Whether its room may go to another."""
        return not self.pins and self.state is ItemState.LANDED


class Landing:
    """Which items have landed, are on their way, or have room set aside.

    Used by the engine's scheduler thread only, but for `open_buffer`, which the fetching thread calls: the item is its
    own while it is FETCHING.
    """

    def __init__(self, folder: Path, capacity_bytes: int) -> None:
        self._folder = folder
        self._capacity = capacity_bytes
        self._items: OrderedDict[str, LandedItem] = OrderedDict()  # least recently used first
        self._used = 0
        self._files = 0
        folder.mkdir(exist_ok=True)

    def __contains__(self, key: str) -> bool:
        item = self._items.get(key)
        return item is not None and item.state is ItemState.LANDED

    def item(self, key: str) -> LandedItem:
        """The item under `key`; raises KeyError if no room was reserved."""
        return self._items[key]

    def fits(self, sizes: dict[str, int]) -> bool:
        """Whether these items (bytes by key) could ever be held at once."""
        return sum(sizes.values()) <= self._capacity

    def otherwise(self, sizes: dict[str, int]) -> dict[str, int]:
        """Those of these items (bytes by key) that are held in another size, and in which."""
        held = {key: self._items[key].nbytes for key in sizes if key in self._items}
        return {key: nbytes for key, nbytes in held.items() if nbytes != sizes[key]}

    def reserve(self, request: str, sizes: dict[str, int]) -> bool:
        """Pin all of these items for a request, making room for those not here yet; all of them or none.

        All or none, because two requests that each held half of what they need would wait for each other for ever.
        """
        missing = {key: size for key, size in sizes.items() if key not in self._items}
        idle = [key for key, item in self._items.items() if item.evictable and key not in sizes]
        shortage = self._used + sum(missing.values()) - self._capacity
        evicted = []
        for key in idle:
            if shortage <= 0:
                break
            evicted.append(key)
            shortage -= self._items[key].nbytes
        if shortage > 0:
            return False
        for key in evicted:
            self._drop(key)
        for key, size in missing.items():
            self._files += 1
            self._items[key] = LandedItem(self._folder / str(self._files), size)
            self._used += size
        for key in sizes:
            self._items[key].pins.add(request)
            self._items.move_to_end(key)
        return True

    def open_buffer(self, key: str, nbytes: int) -> memoryview:
        """Writable memory for an item that is FETCHING.

        Raises:
            OSError: the machine has no room for it, though our own bound has.
        """
        item = self._items[key]
        if nbytes != item.nbytes:
            raise OSError(f"{nbytes} bytes arrive where {item.nbytes} were announced")
        descriptor = os.open(item.path, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600)
        try:
            # Allocated now: running out of shared memory on a later write would be a SIGBUS, not an error.
            os.posix_fallocate(descriptor, 0, nbytes)
            return memoryview(mmap.mmap(descriptor, nbytes))
        finally:
            os.close(descriptor)

    def pin(self, key: str, holder: str) -> None:
        """Keep an item that is here for one more holder, until `release`."""
        self._items[key].pins.add(holder)

    def release(self, request: str, keys: set[str]) -> None:
        """The request has finished. Landed items stay for others until their room is needed."""
        for key in keys:
            item = self._items.get(key)
            if item is None:
                continue
            item.pins.discard(request)
            if not item.pins and item.state is ItemState.RESERVED:
                self._drop(key)

    def settle(self, key: str, ok: bool) -> set[str]:
        """A fetch has ended; returns the requests that wait for the item. A failed item keeps its room while pinned."""
        item = self._items[key]
        item.state = ItemState.LANDED if ok else ItemState.RESERVED
        waiting = set(item.pins)
        if not ok:
            item.path.unlink(missing_ok=True)
            if not waiting:
                self._drop(key)
        return waiting

    def _drop(self, key: str) -> None:
        item = self._items.pop(key)
        self._used -= item.nbytes
        item.path.unlink(missing_ok=True)  # a worker that has mapped it keeps its pages
