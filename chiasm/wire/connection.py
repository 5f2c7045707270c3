"""One consumer's connection to one producer: its DEALER, the watch on it, and the fetches that use it.

For the fetcher's thread alone, which also decides what to do about what is seen here.
"""

import itertools
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import zmq

from chiasm.config import WireConfig
from chiasm.wire.keys import ClusterKeys
from chiasm.wire.landing import FetchResult, Landing
from chiasm.wire.protocol import MAX_CONTROL_BYTES, WIRE_VERSION, Abandon, Credit, Fetch, encode
from chiasm.wire.sockets import bound, connect

MAX_ACTIVE = 32
"""Transfers open at once on one connection, fewer than a server grants one peer."""
SEND_HIGH_WATER = 1024

_watch_numbers = itertools.count()


@dataclass(eq=False)
class Fetching:
    """One call of `fetch`, from then until it is answered. Times are on the monotonic clock."""

    transfer: int
    endpoint: str
    landing: Landing
    done: Callable[[FetchResult], None]
    started: float
    deadline: float
    unacknowledged: int = 0


class ConnectionLost(Exception):
    """The producer vanished, or does not take what it is told."""


class Connection:
    """Fetches on one DEALER: `active` ones are known to the producer, `waiting` ones are not yet.

    Raises:
        zmq.ZMQError: the endpoint is malformed.
    """

    def __init__(
        self, context: "zmq.Context[Any]", endpoint: str, config: WireConfig, keys: ClusterKeys | None
    ) -> None:
        self.endpoint = endpoint
        self.active: dict[int, Fetching] = {}
        self.waiting: deque[Fetching] = deque()
        self.idle_since = time.monotonic()
        self._window = config.window_chunks
        self._chunk_bytes = config.chunk_bytes
        self.socket = bound(
            context.socket(zmq.DEALER),
            high_water=4 * config.window_chunks,
            max_message=config.chunk_bytes + MAX_CONTROL_BYTES,  # encryption adds some bytes
        )
        self.socket.sndhwm = SEND_HIGH_WATER
        # A producer that goes away takes its transfers along, and one that is not there is not about to come (it was
        # bound before its address was told): better to hear of it now than by each deadline.
        watch = f"inproc://watch-{next(_watch_numbers)}"
        self.socket.monitor(watch, zmq.EVENT_DISCONNECTED | zmq.EVENT_CONNECT_RETRIED)
        self.watch = context.socket(zmq.PAIR)
        self.watch.linger = 0
        self.watch.connect(watch)
        try:
            connect(self.socket, endpoint, keys)
        except BaseException:
            self.close()
            raise

    @property
    def idle(self) -> bool:
        """Whether nobody uses it."""
        return not self.active and not self.waiting

    def launch(self) -> None:
        """Ask for as many of the waiting fetches as may be active.

        Raises:
            ConnectionLost: the producer's queue is full.
        """
        while self.waiting and len(self.active) < MAX_ACTIVE:
            fetching = self.waiting.popleft()
            self.active[fetching.transfer] = fetching
            key, layout = fetching.landing.key, fetching.landing.layout
            self._send(Fetch(WIRE_VERSION, layout, key, fetching.transfer, self._window, self._chunk_bytes))

    def acknowledge(self, fetching: Fetching) -> None:
        """A chunk has landed: grant more credit, half a window at a time, and all of it at the end.

        Raises:
            ConnectionLost: the producer's queue is full.
        """
        fetching.unacknowledged += 1
        if fetching.landing.complete or 2 * fetching.unacknowledged >= self._window:
            self._send(Credit(fetching.transfer, fetching.unacknowledged))
            fetching.unacknowledged = 0

    def forget(self, fetching: Fetching, abandon: bool) -> None:
        """The fetch has ended; with `abandon` the producer is told to stop, if it knows of it.

        Raises:
            ConnectionLost: the producer's queue is full.
        """
        if self.active.pop(fetching.transfer, None) is None:
            self.waiting.remove(fetching)
            abandon = False
        self.idle_since = time.monotonic()
        if abandon:
            self._send(Abandon(fetching.transfer))

    def receive(self) -> list[zmq.Frame] | None:
        """The frames of the next message; None if there is none now."""
        try:
            frames: list[zmq.Frame] = self.socket.recv_multipart(zmq.NOBLOCK, copy=False)
        except zmq.Again:
            return None
        return frames

    def close(self) -> None:
        """Close the socket and the watch on it."""
        self.socket.disable_monitor()
        self.watch.close()
        self.socket.close()

    def _send(self, frame: Fetch | Credit | Abandon) -> None:
        try:
            self.socket.send(encode(frame), zmq.NOBLOCK)
        except zmq.Again as error:
            raise ConnectionLost(f"{self.endpoint} takes no messages") from error
