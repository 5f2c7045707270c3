"""The consumer's end of the embedding transport: one thread that fetches embeddings into given buffers.

Owns the connections to producers, their context, and the thread. Must not import torch or vLLM.

Every fetch is answered exactly once, on that thread, at its deadline at the latest. Before a failure is answered the
buffer has been let go of, so that the answer may free it.
"""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

import msgspec
import zmq

from chiasm.config import WireConfig
from chiasm.wire.connection import Connection, ConnectionLost, Fetching
from chiasm.wire.keys import ClusterKeys, KeysError, Policy, required_keys
from chiasm.wire.landing import Allocate, FetchResult, Landing, LandingFailed
from chiasm.wire.protocol import (
    Chunk,
    FailureCode,
    FromProducer,
    Header,
    RefusalCode,
    Refused,
    decode_from_producer,
)
from chiasm.wire.sockets import Doorbell, milliseconds_until

__all__ = ["EmbeddingFetcher", "FetchResult", "FetcherStats"]

log = logging.getLogger(__name__)

MAX_PENDING = 4096
MAX_CONNECTIONS = 256
IDLE_S = 60.0
RECEIVED_A_TURN = 32
JOIN_TIMEOUT_S = 10.0


@dataclass
class FetcherStats:
    """What came in that belonged to no fetch."""

    malformed: int = 0  # no frame of this protocol
    stray: int = 0  # for a transfer that is not, or no longer, under way


class EmbeddingFetcher:
    """Fetches embeddings from any endpoint.

    `allocate(key, nbytes)` gives the writable buffer, of exactly that size, that an embedding lands in; it is called
    on the fetcher's thread, only after the producer's header was found to agree with the descriptor.

    Raises:
        KeysError: the policy is "curve" and there are no keys.
    """

    def __init__(self, config: WireConfig, keys: ClusterKeys | None, policy: Policy, allocate: Allocate) -> None:
        if policy == "curve" and keys is None:
            raise KeysError("security is set to curve, and no cluster keys were given")
        self.stats = FetcherStats()
        self._config = config
        self._keys = keys
        self._policy: Policy = policy
        self._allocate = allocate
        # Shared with the callers, below the lock.
        self._lock = threading.Lock()
        self._orders: deque[Fetching | str] = deque()  # a string is a key to cancel
        self._last_transfer = 0
        self._closing = False
        # The thread's own. Fetches stand in the order of their deadlines: all have equally long.
        self._fetchings: dict[int, Fetching] = {}
        self._connections: dict[str, Connection] = {}
        self._watches: dict[zmq.Socket[bytes], Connection] = {}
        self._context = zmq.Context()
        self._doorbell = Doorbell()
        self._poller = zmq.Poller()
        self._poller.register(self._doorbell, zmq.POLLIN)
        self._thread = threading.Thread(target=self._run, name="chiasm-embedding-fetcher", daemon=True)
        self._thread.start()

    def fetch(
        self,
        key: str,
        endpoint: str,
        shape: tuple[int, ...],
        dtype: str,
        layout: str,
        done: Callable[[FetchResult], None],
    ) -> None:
        """Fetch `key` from `endpoint`; `done(result)` is called once, on the fetcher's thread, and must not block.

        `shape` and `dtype` come from a trusted descriptor and `layout` from `layout_hash`; nothing else is accepted.
        Fetches are independent of each other, also those of one key.

        Raises:
            RuntimeError: the fetcher is closed.
        """
        landing = Landing(key, shape, dtype, layout, self._config)
        with self._lock:
            self._last_transfer += 1
            now = time.monotonic()
            deadline = now + self._config.transfer_timeout_s
            self._order(Fetching(self._last_transfer, endpoint, landing, done, started=now, deadline=deadline))

    def cancel(self, key: str) -> None:
        """End every fetch of `key` that was asked for before; each that still runs is answered CANCELLED.

        Raises:
            RuntimeError: the fetcher is closed.
        """
        with self._lock:
            self._order(key)

    def close(self) -> None:
        """Answer what is under way with CLOSED and stop. May be called more than once; not from `done`.

        Raises:
            TimeoutError: the thread did not end, since a callback of its blocks.
        """
        with self._lock:
            if not self._closing:
                self._closing = True
                self._doorbell.ring()
        self._thread.join(JOIN_TIMEOUT_S)
        if self._thread.is_alive():
            raise TimeoutError("the embedding fetcher's thread did not end")
        self._context.destroy(linger=0)
        self._doorbell.close()

    def _order(self, order: Fetching | str) -> None:
        if self._closing:
            raise RuntimeError("the embedding fetcher is closed")
        self._orders.append(order)
        self._doorbell.ring()

    # -- on the thread ----------------------------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            while not self._closing:
                self._turn()
        except Exception:
            log.exception("the embedding fetcher failed")
        finally:
            with self._lock:
                self._closing = True
                orders = [order for order in self._orders if isinstance(order, Fetching)]
                self._orders.clear()
            for fetching in [*self._fetchings.values(), *orders]:
                self._answer(fetching, FailureCode.CLOSED, "the fetcher was closed")
            for connection in self._connections.values():
                connection.close()

    def _turn(self) -> None:
        events = dict(self._poller.poll(self._patience_ms()))
        self._doorbell.answer()
        self._take_orders()
        lost = [connection for watch, connection in self._watches.items() if watch in events]
        for connection in [c for c in self._connections.values() if c.socket in events]:
            self._receive(connection)
        for connection in lost:
            # Whatever it had still sent was received above.
            self._lose(connection, f"the connection to {connection.endpoint} broke, or the cluster keys differ")
        self._expire()
        self._retire()

    def _patience_ms(self) -> int | None:
        moments = [fetching.deadline for fetching in self._fetchings.values()][:1]
        moments += [c.idle_since + IDLE_S for c in self._connections.values() if c.idle]
        return milliseconds_until(min(moments)) if moments else None

    def _take_orders(self) -> None:
        with self._lock:
            orders = list(self._orders)
            self._orders.clear()
        for order in orders:
            if isinstance(order, Fetching):
                self._begin(order)
            else:
                for fetching in [f for f in self._fetchings.values() if f.landing.key == order]:
                    self._end(fetching, FailureCode.CANCELLED, "cancelled")

    def _begin(self, fetching: Fetching) -> None:
        try:
            fetching.landing.check_descriptor()
            if len(self._fetchings) >= MAX_PENDING:
                raise LandingFailed(RefusalCode.BUSY, f"{MAX_PENDING} fetches are under way")
            connection = self._connections.get(fetching.endpoint) or self._connect(fetching.endpoint)
        except LandingFailed as error:
            self._answer(fetching, error.code, error.detail)
            return
        self._fetchings[fetching.transfer] = fetching
        connection.waiting.append(fetching)
        self._launch(connection)

    def _connect(self, endpoint: str) -> Connection:
        if len(self._connections) >= MAX_CONNECTIONS:
            idle = [connection for connection in self._connections.values() if connection.idle]
            if not idle:
                raise LandingFailed(RefusalCode.BUSY, f"{MAX_CONNECTIONS} producers are being fetched from")
            self._drop(min(idle, key=lambda connection: connection.idle_since))
        try:
            keys = required_keys(endpoint, self._keys, self._policy)
            connection = Connection(self._context, endpoint, self._config, keys)
        except (KeysError, zmq.ZMQError) as error:
            raise LandingFailed(FailureCode.UNREACHABLE, f"{endpoint}: {error}") from error
        self._connections[endpoint] = connection
        self._watches[connection.watch] = connection
        self._poller.register(connection.socket, zmq.POLLIN)
        self._poller.register(connection.watch, zmq.POLLIN)
        return connection

    def _launch(self, connection: Connection) -> None:
        try:
            connection.launch()
        except ConnectionLost as error:
            self._lose(connection, str(error))

    def _receive(self, connection: Connection) -> None:
        for _ in range(RECEIVED_A_TURN):
            if not self._is_open(connection):
                return
            frames = connection.receive()
            if frames is None:
                return
            try:
                message = decode_from_producer(frames[0].buffer)
            except msgspec.DecodeError as error:
                self.stats.malformed += 1
                log.warning("dropped a message that is no frame of this protocol: %s", error)
                continue
            fetching = connection.active.get(message.transfer)
            if fetching is None:
                self.stats.stray += 1
                continue
            self._take(connection, fetching, message, [frame.buffer for frame in frames[1:]])

    def _take(
        self, connection: Connection, fetching: Fetching, message: FromProducer, payload: list[memoryview]
    ) -> None:
        landing = fetching.landing
        try:
            match message:
                case Refused():
                    if message.key != landing.key:
                        raise LandingFailed(FailureCode.PROTOCOL, f"another key was refused: {message.key}")
                    raise LandingFailed(message.code, message.detail)
                case Header():
                    landing.announce(message, self._allocate)
                case Chunk():
                    if len(payload) != 1:
                        raise LandingFailed(FailureCode.PROTOCOL, f"a chunk came with {len(payload)} payload frames")
                    landing.land(message.index, payload[0])
                    connection.acknowledge(fetching)
        except LandingFailed as error:
            self._end(fetching, error.code, error.detail)
        except ConnectionLost as error:
            self._lose(connection, str(error))
        else:
            if landing.complete:
                self._end(fetching)

    def _end(self, fetching: Fetching, code: RefusalCode | FailureCode | None = None, detail: str = "") -> None:
        del self._fetchings[fetching.transfer]
        connection = self._connections[fetching.endpoint]
        self._answer(fetching, code, detail)
        try:
            connection.forget(fetching, abandon=code is not None)
            connection.launch()
        except ConnectionLost as error:
            self._lose(connection, str(error))

    def _lose(self, connection: Connection, detail: str) -> None:
        if not self._is_open(connection):
            return
        self._drop(connection)
        for fetching in [*connection.active.values(), *connection.waiting]:
            del self._fetchings[fetching.transfer]
            self._answer(fetching, FailureCode.UNREACHABLE, detail)

    def _answer(self, fetching: Fetching, code: RefusalCode | FailureCode | None, detail: str) -> None:
        landing = fetching.landing
        landing.release()
        seconds = time.monotonic() - fetching.started
        nbytes = landing.nbytes if code is None else 0
        try:
            fetching.done(FetchResult(landing.key, code is None, nbytes, seconds, code, detail))
        except Exception:
            log.exception("the callback of the fetch of %s failed", landing.key)

    def _expire(self) -> None:
        now = time.monotonic()
        while self._fetchings:
            fetching = next(iter(self._fetchings.values()))
            if fetching.deadline > now:
                return
            detail = f"not complete within {self._config.transfer_timeout_s} s"
            self._end(fetching, FailureCode.DEADLINE, detail)

    def _retire(self) -> None:
        horizon = time.monotonic() - IDLE_S
        for connection in [c for c in self._connections.values() if c.idle and c.idle_since <= horizon]:
            self._drop(connection)

    def _is_open(self, connection: Connection) -> bool:
        return self._connections.get(connection.endpoint) is connection

    def _drop(self, connection: Connection) -> None:
        del self._connections[connection.endpoint]
        del self._watches[connection.watch]
        self._poller.unregister(connection.socket)
        self._poller.unregister(connection.watch)
        connection.close()
