"""The two sides that `bench.wire` compares, and the process that serves both.

The transport side fetches as a decoder does. The bare side is what ZeroMQ does without any of the transport's
promises: a DEALER asks, a ROUTER answers with the whole payload in one frame, sent without a copy. On both sides the
bytes end in a buffer that is there already.
"""

import multiprocessing
import queue
import random
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any, Protocol

import zmq

from chiasm.config import WireConfig
from chiasm.wire.fetcher import EmbeddingFetcher, FetchResult
from chiasm.wire.keys import ClusterKeys, Policy, authenticate, required_keys
from chiasm.wire.server import EmbeddingServer
from chiasm.wire.sockets import bind, connect
from chiasm.wire.store import EmbeddingStore

LAYOUT = "bench"
ROW_BYTES = 2048  # 1024 elements of float16
DTYPE = "float16"
SEED = 20
IN_FLIGHT = 4
TIMEOUT_S = 60.0
POLL_MS = 100


@dataclass(frozen=True)
class Setting:
    """One way to connect the two processes."""

    transport: str  # "ipc" or "tcp"
    policy: Policy

    @property
    def name(self) -> str:
        """As the report calls it."""
        return f"{self.transport}_{'curve' if self.policy == 'curve' else 'plain'}"

    def endpoint(self, folder: str, side: str) -> str:
        """Where that side's server binds."""
        return f"ipc://{folder}/{side}-{self.name}" if self.transport == "ipc" else "tcp://127.0.0.1:*"


@dataclass(frozen=True)
class Endpoints:
    """Where one setting is served."""

    transport: str
    bare: str


class Side(Protocol):
    """Something that can get `nbytes` over."""

    def ask(self, nbytes: int) -> None:
        """Ask for a payload."""

    def wait(self, nbytes: int) -> None:
        """Until one that was asked for has landed."""


def time_alone(side: Side, nbytes: int) -> float:
    """Seconds that one fetch takes when nothing else is under way."""
    start = time.perf_counter()
    side.ask(nbytes)
    side.wait(nbytes)
    return time.perf_counter() - start


def time_batch(side: Side, nbytes: int, count: int) -> float:
    """Seconds a fetch when `count` are made, `IN_FLIGHT` of them at any time."""
    start = time.perf_counter()
    for number in range(count + IN_FLIGHT):
        if number >= IN_FLIGHT:
            side.wait(nbytes)
        if number < count:
            side.ask(nbytes)
    return (time.perf_counter() - start) / count


class TransportSide:
    """Ours."""

    def __init__(self, endpoint: str, keys: ClusterKeys, policy: Policy, buffers: Mapping[int, bytearray]) -> None:
        self._endpoint = endpoint
        self._results: queue.SimpleQueue[FetchResult] = queue.SimpleQueue()
        self._fetcher = EmbeddingFetcher(WireConfig(), keys, policy, lambda key, nbytes: buffers[nbytes])

    def ask(self, nbytes: int) -> None:
        """Ask for a payload."""
        shape = (nbytes // ROW_BYTES, ROW_BYTES // 2)
        self._fetcher.fetch(str(nbytes), self._endpoint, shape, DTYPE, LAYOUT, self._results.put)

    def wait(self, nbytes: int) -> None:
        """Until one that was asked for has landed."""
        result = self._results.get(timeout=TIMEOUT_S)
        if not result.ok:
            raise RuntimeError(f"a fetch failed: {result.code}: {result.detail}")

    def close(self) -> None:
        """End its thread."""
        self._fetcher.close()


class BareSide:
    """The rival."""

    def __init__(self, endpoint: str, keys: ClusterKeys, policy: Policy, buffers: Mapping[int, bytearray]) -> None:
        self._buffers = buffers
        self._context = zmq.Context()
        self._socket = self._context.socket(zmq.DEALER)
        self._socket.rcvtimeo = round(TIMEOUT_S * 1000)
        connect(self._socket, endpoint, required_keys(endpoint, keys, policy))

    def ask(self, nbytes: int) -> None:
        """Ask for a payload."""
        self._socket.send(b"%d" % nbytes)

    def wait(self, nbytes: int) -> None:
        """Until one that was asked for has landed."""
        frame = self._socket.recv(copy=False)
        self._buffers[nbytes][:] = frame.buffer

    def close(self) -> None:
        """Close its socket."""
        self._context.destroy(linger=0)


class _BareServer:
    """Answers every request with the payload that it names, on a thread of its own."""

    def __init__(self, payloads: Mapping[bytes, bytes], endpoint: str, keys: ClusterKeys, policy: Policy) -> None:
        required = required_keys(endpoint, keys, policy)
        self._payloads = payloads
        self._context = zmq.Context()
        self._authenticator = authenticate(self._context, required) if required is not None else None
        self._socket = self._context.socket(zmq.ROUTER)
        self.endpoint = bind(self._socket, endpoint, required)
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="bare-server")
        self._thread.start()

    def _run(self) -> None:
        while not self._closing.is_set():
            if self._socket.poll(POLL_MS):
                peer, name = self._socket.recv_multipart()
                self._socket.send_multipart([peer, self._payloads[name]], copy=False)

    def close(self) -> None:
        """End its thread, close its socket."""
        self._closing.set()
        self._thread.join(TIMEOUT_S)
        self._socket.close()
        if self._authenticator is not None:
            self._authenticator.stop()
        self._context.destroy(linger=0)


@contextmanager
def serving(settings: tuple[Setting, ...], sizes: tuple[int, ...], keys: ClusterKeys) -> Iterator[list[Endpoints]]:
    """A process that serves payloads of `sizes` bytes in each of the settings, and where.

    Raises:
        TimeoutError: it was not ready in time.
    """
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    with tempfile.TemporaryDirectory(prefix="chiasm-bench-") as folder, closing(ours):
        process = context.Process(target=_serve, args=(theirs, settings, sizes, keys, folder))
        process.start()
        theirs.close()
        try:
            if not ours.poll(TIMEOUT_S):
                raise TimeoutError("the serving process was not ready in time")
            yield ours.recv()
            ours.send(None)
            process.join(TIMEOUT_S)
        finally:
            process.terminate()
            process.join(TIMEOUT_S)


def _serve(
    owner: "Connection[Any, Any]", settings: tuple[Setting, ...], sizes: tuple[int, ...], keys: ClusterKeys, folder: str
) -> None:
    rng = random.Random(SEED)
    payloads = {str(nbytes): rng.randbytes(nbytes) for nbytes in sizes}
    store = EmbeddingStore(sum(sizes), lease_s=0.0, on_evict=lambda key: None)
    for key, payload in payloads.items():
        store.publish(key, payload, (len(payload) // ROW_BYTES, ROW_BYTES // 2), DTYPE, LAYOUT)
    bare_payloads = {key.encode(): payload for key, payload in payloads.items()}
    endpoints = []
    with ExitStack() as stack:
        for setting in settings:
            endpoint = setting.endpoint(folder, "transport")
            server = stack.enter_context(closing(EmbeddingServer(store, endpoint, WireConfig(), keys, setting.policy)))
            endpoint = setting.endpoint(folder, "bare")
            bare = stack.enter_context(closing(_BareServer(bare_payloads, endpoint, keys, setting.policy)))
            endpoints.append(Endpoints(server.start(), bare.endpoint))
        owner.send(endpoints)
        owner.recv()
