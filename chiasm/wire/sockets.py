"""How every ZeroMQ socket of Chiasm is opened: bounded, impatient, secured. And the bell that wakes a polling thread.

Owns the socket options; callers ask `chiasm.wire.keys.required_keys` whether to encrypt. Must not import the rest of
`chiasm.wire`.
"""

import contextlib
import math
import socket as system
import time
from typing import Any, TypeVar

import zmq

from chiasm.wire.keys import ClusterKeys, secure_client, secure_server

HEARTBEAT_MS = 5_000
HEARTBEAT_TIMEOUT_MS = 15_000
CONNECT_TIMEOUT_MS = 5_000
"""After which connecting begins anew. The system itself asks a silent host at ever longer intervals, so that one that
was cut off could be back for as long as it was away before anybody noticed."""

Socket = TypeVar("Socket", bound="zmq.Socket[Any]")


def bound(socket: Socket, *, high_water: int, max_message: int) -> Socket:
    """Limit a new socket: messages queued a peer and way, bytes of one incoming frame, patience with a silent peer.

    A peer that sends a larger frame, or whose host falls silent, is disconnected.
    """
    socket.linger = 0
    socket.sndhwm = socket.rcvhwm = high_water
    socket.setsockopt(zmq.MAXMSGSIZE, max_message)
    socket.setsockopt(zmq.HEARTBEAT_IVL, HEARTBEAT_MS)
    socket.setsockopt(zmq.HEARTBEAT_TIMEOUT, HEARTBEAT_TIMEOUT_MS)
    socket.setsockopt(zmq.CONNECT_TIMEOUT, CONNECT_TIMEOUT_MS)
    if socket.type == zmq.ROUTER:
        # A peer that vanished or does not read is an error of the send instead of silence.
        socket.setsockopt(zmq.ROUTER_MANDATORY, 1)
    return socket


def bind(socket: "zmq.Socket[Any]", endpoint: str, keys: ClusterKeys | None) -> str:
    """Bind, encrypted if there are `keys`, and return the endpoint really bound (`tcp://host:*` picks a port).

    With keys, `chiasm.wire.keys.authenticate` must serve the socket's context already.

    Raises:
        zmq.ZMQError: the endpoint is malformed or taken.
    """
    if keys is not None:
        secure_server(socket, keys)
    socket.ipv6 = "[" in endpoint
    socket.bind(endpoint)
    return socket.getsockopt_string(zmq.LAST_ENDPOINT)


def connect(socket: "zmq.Socket[Any]", endpoint: str, keys: ClusterKeys | None) -> None:
    """Connect, encrypted if there are `keys`.

    Raises:
        zmq.ZMQError: the endpoint is malformed.
    """
    if keys is not None:
        secure_client(socket, keys)
    socket.ipv6 = "[" in endpoint
    socket.connect(endpoint)


def milliseconds_until(deadline: float) -> int:
    """How long to poll until `deadline` on the monotonic clock: rounded up, as waking early would mean to spin."""
    return max(0, math.ceil((deadline - time.monotonic()) * 1000))


class Doorbell:
    """Wakes the thread that polls it. Rung from any thread; answered and closed by its owner."""

    def __init__(self) -> None:
        self._ear, self._button = system.socketpair()
        self._ear.setblocking(False)
        self._button.setblocking(False)

    def fileno(self) -> int:
        """What to poll."""
        return self._ear.fileno()

    def ring(self) -> None:
        """Make the bell readable."""
        with contextlib.suppress(BlockingIOError):  # full: it is ringing already
            self._button.send(b"!")

    def answer(self) -> None:
        """Silence the bell. To be called before looking for what it announced, or a ring in between is lost."""
        with contextlib.suppress(BlockingIOError):
            while self._ear.recv(4096):
                pass

    def close(self) -> None:
        """Close both ends."""
        self._ear.close()
        self._button.close()
