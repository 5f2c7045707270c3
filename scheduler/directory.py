"""Which encoder holds which embedding, and which withheld requests count on it.

Owns the entries and their bound; decides nothing. Imports only `chiasm.nouns`, msgspec and the standard library.
"""

from collections import OrderedDict, defaultdict
from collections.abc import Iterable

from msgspec import Struct

from chiasm.nouns import Embedding, ItemUuid, RequestId, WorkerId


class Entry(Struct, eq=False):
    """One embedding on one encoder.

    `users` are the withheld requests that count on it, in the order they came; `ready` of them lack nothing but a
    decoder.
    """

    worker: WorkerId
    embedding: Embedding
    nbytes: int
    users: dict[RequestId, None]
    ready: int = 0


class Directory:
    """Entries by item: least recently used ones are forgotten beyond `limit`, entries in use are not.

    In use are only what withheld requests need, and these are bounded by the queue.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._entries: dict[ItemUuid, Entry] = {}
        self._idle: OrderedDict[ItemUuid, None] = OrderedDict()
        # Several items may lie under one key of vLLM's: an eviction then takes them all.
        self._by_worker: defaultdict[WorkerId, dict[str, list[Entry]]] = defaultdict(dict)
        self._held: defaultdict[WorkerId, int] = defaultdict(int)

    def __contains__(self, uuid: ItemUuid) -> bool:
        return uuid in self._entries

    def __len__(self) -> int:
        return len(self._entries)

    def held_by(self, worker: WorkerId) -> int:
        """How many embeddings it is known to hold."""
        return self._held.get(worker, 0)

    def workers(self) -> Iterable[WorkerId]:
        """The workers that are known to hold something."""
        return self._held.keys()

    def put(self, worker: WorkerId, embedding: Embedding, nbytes: int, users: dict[RequestId, None]) -> Entry:
        """Enters an embedding whose item is not in the directory yet, in use by `users`, who are the entry's now."""
        entry = Entry(worker, embedding, nbytes, users)
        self._entries[embedding.uuid] = entry
        self._by_worker[worker].setdefault(embedding.key, []).append(entry)
        self._held[worker] += 1
        if not users:
            self._idle[embedding.uuid] = None
        if len(self._entries) > self._limit:
            self._trim()
        return entry

    def acquire(self, uuid: ItemUuid, request: RequestId) -> Entry | None:
        """The entry of that item, in use by `request` until it releases it; None where nobody holds it."""
        entry = self._entries.get(uuid)
        if entry is not None:
            entry.users[request] = None
            self._idle.pop(uuid, None)
        return entry

    def release(self, entry: Entry, request: RequestId) -> None:
        """Ends the use of `entry` by `request`, if it does use it."""
        users, uuid = entry.users, entry.embedding.uuid
        if request not in users:
            return
        del users[request]
        if not users and self._entries.get(uuid) is entry:
            self._idle[uuid] = None
            if len(self._entries) > self._limit:
                self._trim()

    def is_current(self, entry: Entry) -> bool:
        """Is it still this very entry that the directory names for the item?"""
        return self._entries.get(entry.embedding.uuid) is entry

    def drop(self, entry: Entry) -> None:
        """Forgets a current entry; its users are the caller's to care for."""
        uuid, key = entry.embedding.uuid, entry.embedding.key
        del self._entries[uuid]
        self._idle.pop(uuid, None)
        keys = self._by_worker[entry.worker]
        keys[key].remove(entry)
        if not keys[key]:
            del keys[key]
        self._held[entry.worker] -= 1
        if not keys:
            del self._by_worker[entry.worker], self._held[entry.worker]

    def entries_under(self, worker: WorkerId, key: str) -> list[Entry]:
        """What `worker` holds under a key of vLLM's."""
        return list(self._by_worker.get(worker, {}).get(key, ()))

    def entries_of(self, worker: WorkerId) -> list[Entry]:
        """Everything that `worker` holds."""
        return [entry for entries in self._by_worker.get(worker, {}).values() for entry in entries]

    def _trim(self) -> None:
        while len(self._entries) > self._limit and self._idle:
            self.drop(self._entries[next(iter(self._idle))])

    def check_integrity(self) -> None:
        """Raises AssertionError where its indexes disagree or its bound is broken."""
        indexed = [entry for worker in self._by_worker for entry in self.entries_of(worker)]
        assert {entry.embedding.uuid: entry for entry in indexed} == self._entries, "the index by worker differs"
        assert len(indexed) == len(self._entries), "an entry is indexed twice"
        assert sum(self._held.values()) == len(self._entries), "embeddings are miscounted"
        idle = {uuid for uuid, entry in self._entries.items() if not entry.users}
        assert idle == self._idle.keys(), "an entry is idle and in use, or neither"
        assert len(self._entries) <= max(self._limit, len(self._entries) - len(idle)), "the directory is over its bound"
