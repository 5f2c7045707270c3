"""The producer's open transfers: which there are, what each is owed next, and until when.

Owns their pins in the store and the counters. Knows neither sockets nor threads; for the server's thread alone.
"""

import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from chiasm.config import WireConfig
from chiasm.wire.protocol import WIRE_VERSION, Chunk, Credit, Fetch, Header, RefusalCode, Refused, encode
from chiasm.wire.store import EmbeddingStore, Refusal, StoredEmbedding

MAX_OPEN = 512
MAX_OPEN_PER_PEER = 64
HASH_STEP_BYTES = 1 << 20
MAX_DETAIL_CHARS = 1024


@dataclass
class ServerStats:
    """What a server did since it started."""

    transfers: int = 0  # complete: every chunk was sent and acknowledged
    bytes: int = 0  # payload handed to ZeroMQ
    refused: Counter[RefusalCode] = field(default_factory=Counter)
    abandoned: int = 0  # given up by the consumer
    dropped: int = 0  # the consumer fell silent or vanished
    malformed: int = 0  # messages that make no sense

    def as_dict(self) -> dict[str, int]:
        """The counters by name, one for each reason of refusal."""
        refused = {f"refused_{code}": self.refused[code] for code in RefusalCode}
        return {
            "transfers": self.transfers,
            "bytes": self.bytes,
            "abandoned": self.abandoned,
            "dropped": self.dropped,
            "malformed": self.malformed,
            **refused,
        }


class Sending:
    """One open transfer: hash the item if nobody did yet, announce it, send its chunks as credit allows."""

    def __init__(self, peer: bytes, fetch: Fetch, item: StoredEmbedding, config: WireConfig) -> None:
        self.peer = peer
        self.item = item
        self._transfer = fetch.transfer
        self._window = min(fetch.window, config.window_chunks)
        self._chunk_bytes = min(fetch.chunk_bytes, config.chunk_bytes)
        self._chunks = -(-item.payload.nbytes // self._chunk_bytes)
        self._announced = False
        self._sent = 0
        self._acknowledged = 0
        self.idle_deadline = 0.0

    @property
    def id(self) -> tuple[bytes, int]:
        """The peer's routing id, and the peer's own number of the transfer."""
        return self.peer, self._transfer

    @property
    def ready(self) -> bool:
        """Whether there is something to do before the consumer says more."""
        if not self._announced:
            return True
        return self._sent < self._chunks and self._sent - self._acknowledged < self._window

    @property
    def complete(self) -> bool:
        """Whether the consumer has everything."""
        return self._acknowledged == self._chunks

    def next_frames(self) -> list[bytes | memoryview] | None:
        """What to send next; None if only some hashing was done. Call `confirm` once it is sent."""
        if self._announced:
            start = self._sent * self._chunk_bytes
            payload = self.item.payload[start : start + self._chunk_bytes]
            return [encode(Chunk(self._transfer, self._sent)), payload]
        checksum = self.item.hash_some(HASH_STEP_BYTES)
        if checksum is None:
            return None
        header = Header(
            transfer=self._transfer,
            key=self.item.key,
            layout=self.item.layout,
            shape=self.item.shape,
            dtype=self.item.dtype,
            nbytes=self.item.payload.nbytes,
            chunk_bytes=self._chunk_bytes,
            checksum=checksum,
        )
        return [encode(header)]

    def confirm(self) -> None:
        """The frames of `next_frames` were accepted by the socket."""
        if self._announced:
            self._sent += 1
        self._announced = True

    def acknowledge(self, chunks: int) -> bool:
        """Count what landed; False if more landed than was sent."""
        if self._acknowledged + chunks > self._sent:
            return False
        self._acknowledged += chunks
        return True


class OpenTransfers:
    """All open transfers of one server, bounded in number and each in idleness."""

    def __init__(self, store: EmbeddingStore, config: WireConfig) -> None:
        self._store = store
        self._config = config
        self._open: dict[tuple[bytes, int], Sending] = {}
        self._peers: Counter[bytes] = Counter()
        self.stats = ServerStats()

    def __len__(self) -> int:
        return len(self._open)

    @property
    def next_deadline(self) -> float | None:
        """When the next transfer will have been idle for too long, on the monotonic clock."""
        return min((sending.idle_deadline for sending in self._open.values()), default=None)

    def ready(self) -> list[Sending]:
        """One turn for each transfer that has something to do."""
        return [sending for sending in self._open.values() if sending.ready]

    def open(self, peer: bytes, fetch: Fetch) -> Refused | None:
        """Begin a transfer, or refuse it."""
        objection = self._objection(peer, fetch)
        if objection is not None:
            return self._refuse(fetch.transfer, fetch.key, objection)
        item = self._store.pin(fetch.key)
        if item is None:
            return self._refuse(fetch.transfer, fetch.key, self._store.refusal(fetch.key))
        if item.layout != fetch.layout:
            self._store.unpin(fetch.key, fetched=False)
            detail = f"the producer's layout is {item.layout}, the consumer's {fetch.layout}"
            return self._refuse(fetch.transfer, fetch.key, Refusal(RefusalCode.LAYOUT_MISMATCH, detail))
        sending = Sending(peer, fetch, item, self._config)
        self._open[sending.id] = sending
        self._peers[peer] += 1
        self.touch(sending)
        return None

    def touch(self, sending: Sending) -> None:
        """The transfer shows life."""
        sending.idle_deadline = time.monotonic() + self._config.transfer_timeout_s

    def credit(self, peer: bytes, credit: Credit) -> Refused | None:
        """Count what landed, or refuse to go on. Credit for a transfer that is no longer open is stale: ignored."""
        sending = self._open.get((peer, credit.transfer))
        if sending is None:
            return None
        if not sending.acknowledge(credit.chunks):
            self._close(sending, fetched=False)
            refusal = Refusal(RefusalCode.MALFORMED, "more chunks were acknowledged than sent")
            return self._refuse(credit.transfer, sending.item.key, refusal)
        if sending.complete:
            self.stats.transfers += 1
            self._close(sending, fetched=True)
        else:
            self.touch(sending)
        return None

    def abandon(self, peer: bytes, transfer: int) -> None:
        """The consumer gave up."""
        sending = self._open.get((peer, transfer))
        if sending is not None:
            self.stats.abandoned += 1
            self._close(sending, fetched=False)

    def drop_peer(self, peer: bytes) -> None:
        """The consumer vanished."""
        self._drop([sending for sending in self._open.values() if sending.peer == peer])

    def drop_idle(self) -> None:
        """Let go of every transfer that was idle for too long."""
        now = time.monotonic()
        self._drop([sending for sending in self._open.values() if sending.idle_deadline <= now])

    def drop_all(self) -> None:
        """Let go of every transfer."""
        self._drop(list(self._open.values()))

    def _refuse(self, transfer: int, key: str, refusal: Refusal) -> Refused:
        self.stats.refused[refusal.code] += 1
        return Refused(transfer, key, refusal.code, refusal.detail[:MAX_DETAIL_CHARS])

    def _drop(self, sendings: Iterable[Sending]) -> None:
        for sending in sendings:
            self.stats.dropped += 1
            self._close(sending, fetched=False)

    def _close(self, sending: Sending, fetched: bool) -> None:
        del self._open[sending.id]
        self._peers[sending.peer] -= 1
        if not self._peers[sending.peer]:
            del self._peers[sending.peer]
        self._store.unpin(sending.item.key, fetched)

    def _objection(self, peer: bytes, fetch: Fetch) -> Refusal | None:
        if fetch.version != WIRE_VERSION:
            detail = f"the producer speaks version {WIRE_VERSION}, the consumer {fetch.version}"
            return Refusal(RefusalCode.VERSION_MISMATCH, detail)
        if (peer, fetch.transfer) in self._open:
            return Refusal(RefusalCode.MALFORMED, f"transfer {fetch.transfer} is open already")
        if len(self._open) >= MAX_OPEN or self._peers[peer] >= MAX_OPEN_PER_PEER:
            return Refusal(RefusalCode.BUSY, f"{len(self._open)} transfers are open")
        return None
