"""The producer's end of the embedding transport: one thread that answers fetches out of a store.

Owns the ROUTER, its context and its thread. The bytes are sent from where they lie, without a copy. Must not import
torch or vLLM.

The thread never waits for one reader: it sends without blocking, one chunk a turn for each transfer that has credit,
and a reader that does not read only holds its own transfers up, until they were idle for too long.
"""

import dataclasses
import logging
import threading
import time
from collections import deque
from collections.abc import Sequence
from enum import Enum, auto
from typing import NamedTuple

import msgspec
import zmq

from chiasm.config import WireConfig
from chiasm.wire.keys import ClusterKeys, Policy, authenticate, required_keys
from chiasm.wire.protocol import (
    MAX_CONTROL_BYTES,
    Abandon,
    Credit,
    Fetch,
    decode_from_consumer,
    encode,
)
from chiasm.wire.sending import OpenTransfers, Sending, ServerStats
from chiasm.wire.sockets import Doorbell, bind, bound, milliseconds_until
from chiasm.wire.store import EmbeddingStore

log = logging.getLogger(__name__)

RECEIVED_A_TURN = 64
MAX_LATE_PER_PEER = 64
STALL_RETRY_MS = 10
"""When every reader that is owed something has a full queue: libzmq tells that some queue has room, not whose."""
JOIN_TIMEOUT_S = 10.0


class _Sent(Enum):
    YES = auto()
    FULL = auto()  # the reader's queue is at its high-water mark
    GONE = auto()  # there is no such reader any more


class _LateAnswer(NamedTuple):
    peer: bytes
    frame: bytes
    deadline: float


class EmbeddingServer:
    """Serves the embeddings of `store` at `endpoint` (`tcp://host:*` or `ipc://path`).

    Started once, closed once. Whoever may open an ipc path may fetch: its folder's permissions are the guard.
    """

    def __init__(
        self,
        store: EmbeddingStore,
        endpoint: str,
        config: WireConfig,
        keys: ClusterKeys | None = None,
        policy: Policy = "auto",
    ) -> None:
        self.endpoint = endpoint
        self._keys = keys
        self._policy: Policy = policy
        self._high_water = 4 * config.window_chunks
        self._transfers = OpenTransfers(store, config)
        self._late: deque[_LateAnswer] = deque()
        self._timeout_s = config.transfer_timeout_s
        self._closing = threading.Event()
        self._thread: threading.Thread | None = None

    @property
    def stats(self) -> ServerStats:
        """A copy of the counters."""
        stats = self._transfers.stats
        return dataclasses.replace(stats, refused=stats.refused.copy())

    @property
    def open(self) -> int:
        """How many transfers have begun and not ended. May be read from any thread."""
        return len(self._transfers)

    def start(self) -> str:
        """Bind and serve; the endpoint really bound, which `endpoint` names from now on.

        Raises:
            KeysError: the endpoint must be encrypted and there are no keys.
            zmq.ZMQError: the endpoint is malformed or taken.
        """
        keys = required_keys(self.endpoint, self._keys, self._policy)
        self._context = zmq.Context()
        self._authenticator = authenticate(self._context, keys) if keys is not None else None
        self._socket = bound(
            self._context.socket(zmq.ROUTER), high_water=self._high_water, max_message=MAX_CONTROL_BYTES
        )
        self._doorbell = Doorbell()
        try:
            self.endpoint = bind(self._socket, self.endpoint, keys)
        except BaseException:
            self._release()
            raise
        # The thread owns the socket from here on.
        self._thread = threading.Thread(target=self._run, name="chiasm-embedding-server", daemon=True)
        self._thread.start()
        return self.endpoint

    def close(self) -> None:
        """Stop serving, drop what is open, free the endpoint. May be called more than once.

        Raises:
            TimeoutError: the thread did not end.
        """
        if self._thread is None:
            return
        self._closing.set()
        self._doorbell.ring()
        self._thread.join(JOIN_TIMEOUT_S)
        if self._thread.is_alive():
            raise TimeoutError("the embedding server's thread did not end")
        self._thread = None
        self._release()

    def _release(self) -> None:
        self._socket.close()
        if self._authenticator is not None:
            self._authenticator.stop()
        self._context.destroy(linger=0)
        self._doorbell.close()

    def _run(self) -> None:
        poller = zmq.Poller()
        poller.register(self._socket, zmq.POLLIN)
        poller.register(self._doorbell, zmq.POLLIN)
        progress = True
        try:
            while not self._closing.is_set():
                poller.poll(self._patience_ms(progress))
                self._receive()
                progress = self._send()
                self._transfers.drop_idle()
        except Exception:
            log.exception("the embedding server failed")
        finally:
            self._transfers.drop_all()
            self._socket.close()

    def _patience_ms(self, progress: bool) -> int | None:
        if self._late or self._transfers.ready():
            return 0 if progress else STALL_RETRY_MS
        deadline = self._transfers.next_deadline
        return None if deadline is None else milliseconds_until(deadline)

    def _receive(self) -> None:
        for _ in range(RECEIVED_A_TURN):
            try:
                frames = self._socket.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                return
            self._take(frames[0], frames[1:])

    def _take(self, peer: bytes, frames: list[bytes]) -> None:
        try:
            if len(frames) != 1:
                raise msgspec.DecodeError(f"{len(frames)} frames")
            message = decode_from_consumer(frames[0])
        except msgspec.DecodeError as error:
            self._transfers.stats.malformed += 1
            log.warning("dropped a message that is no frame of this protocol: %s", error)
            return
        refused = None
        match message:
            case Fetch():
                refused = self._transfers.open(peer, message)
            case Credit():
                refused = self._transfers.credit(peer, message)
            case Abandon():
                self._transfers.abandon(peer, message.transfer)
        if refused is not None:
            log.info("refused %s: %s: %s", refused.key, refused.code, refused.detail)
            self._answer(peer, encode(refused))

    def _answer(self, peer: bytes, frame: bytes) -> None:
        """Send a refusal, later if the reader's queue is full of chunks. Who takes none at all is owed only so many."""
        if self._post(peer, [frame]) is _Sent.FULL:
            owed = sum(late.peer == peer for late in self._late)
            if owed < MAX_LATE_PER_PEER:
                self._late.append(_LateAnswer(peer, frame, time.monotonic() + self._timeout_s))

    def _send_late_answers(self) -> None:
        for _ in range(len(self._late)):
            late = self._late.popleft()
            if self._post(late.peer, [late.frame]) is _Sent.FULL and late.deadline > time.monotonic():
                self._late.append(late)

    def _send(self) -> bool:
        """One turn for every transfer that has something to send; whether any of them came further."""
        self._send_late_answers()
        progress = False
        gone = set()
        for sending in self._transfers.ready():
            if sending.peer in gone:
                continue
            match self._advance(sending):
                case _Sent.YES:
                    progress = True
                case _Sent.GONE:
                    gone.add(sending.peer)
                    self._transfers.drop_peer(sending.peer)
        return progress

    def _advance(self, sending: Sending) -> _Sent:
        frames = sending.next_frames()
        if frames is None:
            return _Sent.YES
        sent = self._post(sending.peer, frames)
        if sent is _Sent.YES:
            sending.confirm()
            self._transfers.touch(sending)
            self._transfers.stats.bytes += sum(len(frame) for frame in frames[1:])
        return sent

    def _post(self, peer: bytes, frames: Sequence[bytes | memoryview]) -> _Sent:
        try:
            self._socket.send_multipart([peer, *frames], zmq.NOBLOCK, copy=False)
        except zmq.Again:
            return _Sent.FULL
        except zmq.ZMQError as error:
            if error.errno == zmq.EHOSTUNREACH:
                return _Sent.GONE
            raise
        return _Sent.YES
