"""Scheduling messages between processes: one server (the scheduler) and its clients, on asyncio.

Owns the sockets and their contexts; `chiasm.messages` owns what travels. Must not import torch or vLLM.

Messages may be lost when a connection breaks or a queue is full, and never come twice: whoever needs certainty asks
again. Reconnecting is ZeroMQ's; a client that reconnected is another peer to the server. `receive` may be cancelled,
e.g. by `asyncio.timeout`, without losing a message.
"""

import asyncio
import logging
from typing import cast

import msgspec
import zmq
import zmq.asyncio

from chiasm import messages
from chiasm.messages import AnyMessage
from chiasm.wire.keys import ClusterKeys, Policy, authenticate, required_keys
from chiasm.wire.sockets import bind, bound, connect

log = logging.getLogger(__name__)

HIGH_WATER = 4096
MAX_MESSAGE_BYTES = 4 << 20


def _decode(frames: list[bytes]) -> AnyMessage | None:
    try:
        if len(frames) != 1:
            raise msgspec.DecodeError(f"{len(frames)} frames")
        return messages.decode(frames[0])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        log.warning("dropped a frame that is no message: %s", error)
        return None


def _send_now(socket: zmq.asyncio.Socket, frames: list[bytes]) -> bool:
    # Without blocking, pyzmq sends or fails before it returns; its future only carries the outcome. It has to be the
    # asyncio socket all the same: a send may swallow the event that a waiting receive needs, and it sees to that.
    outcome = cast("asyncio.Future[None]", socket.send_multipart(frames, zmq.NOBLOCK))
    error = outcome.exception()
    if isinstance(error, zmq.ZMQError) and error.errno in (zmq.EAGAIN, zmq.EHOSTUNREACH):
        return False
    if error is not None:
        raise error
    return True


class ChannelServer:
    """Bound to `endpoint` (`tcp://host:*` or `ipc://path`); `.endpoint` is the one really bound. For one event loop.

    Raises:
        KeysError: the endpoint must be encrypted and there are no keys.
        zmq.ZMQError: the endpoint is malformed or taken.
    """

    def __init__(self, endpoint: str, keys: ClusterKeys | None = None, policy: Policy = "auto") -> None:
        required = required_keys(endpoint, keys, policy)
        self.dropped = 0  # frames that were no message
        self._context = zmq.asyncio.Context()
        self._authenticator = authenticate(self._context, required) if required is not None else None
        self._socket = bound(self._context.socket(zmq.ROUTER), high_water=HIGH_WATER, max_message=MAX_MESSAGE_BYTES)
        try:
            self.endpoint = bind(self._socket, endpoint, required)
        except BaseException:
            self.close()
            raise

    async def receive(self) -> tuple[bytes, AnyMessage]:
        """The next message and the peer that sent it, a name valid for `send` while the peer stays connected."""
        while True:
            peer, *frames = await self._socket.recv_multipart()
            message = _decode(frames)
            if message is not None:
                return peer, message
            self.dropped += 1

    def send(self, peer: bytes, message: AnyMessage) -> bool:
        """Queue `message` for `peer`; False if it vanished or its queue is full. Never waits."""
        return _send_now(self._socket, [peer, messages.encode(message)])

    def close(self) -> None:
        """Free the endpoint; what was not sent yet is lost. May be called more than once."""
        self._socket.close()
        # The authenticator's socket is of this context too, so it goes before the context does.
        if self._authenticator is not None:
            self._authenticator.stop()
        self._context.destroy(linger=0)


class ChannelClient:
    """Connected, sooner or later, to the ChannelServer at `endpoint`. For one event loop.

    Raises:
        KeysError: the endpoint must be encrypted and there are no keys.
        zmq.ZMQError: the endpoint is malformed.
    """

    def __init__(self, endpoint: str, keys: ClusterKeys | None = None, policy: Policy = "auto") -> None:
        required = required_keys(endpoint, keys, policy)
        self.endpoint = endpoint
        self.dropped = 0  # frames that were no message
        self._context = zmq.asyncio.Context()
        self._socket = bound(self._context.socket(zmq.DEALER), high_water=HIGH_WATER, max_message=MAX_MESSAGE_BYTES)
        try:
            connect(self._socket, endpoint, required)
        except BaseException:
            self.close()
            raise

    async def receive(self) -> AnyMessage:
        """The next message."""
        while True:
            message = _decode(await self._socket.recv_multipart())
            if message is not None:
                return message
            self.dropped += 1

    def send(self, message: AnyMessage) -> bool:
        """Queue `message`; False if the queue is full, as it gets while there is no server. Never waits."""
        return _send_now(self._socket, [messages.encode(message)])

    def close(self) -> None:
        """Disconnect; what was not sent yet is lost. May be called more than once."""
        self._socket.close()
        self._context.destroy(linger=0)
