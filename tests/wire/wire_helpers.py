"""What the wire's tests share: a tensor, a fetcher that can be waited for, and peers that may misbehave."""

import queue
import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import zmq
from blake3 import blake3

from chiasm.config import WireConfig
from chiasm.wire.fetcher import EmbeddingFetcher, FetchResult
from chiasm.wire.keys import ClusterKeys, Policy
from chiasm.wire.protocol import WIRE_VERSION, Fetch, Header, decode_from_consumer, decode_from_producer, encode

PATIENCE_S = 10
LAYOUT = "layout-of-the-tests"


def wait_until(condition: Callable[[], bool]) -> None:
    """Poll until `condition` holds; fails the test if it never does."""
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, "never came true"
        time.sleep(0.001)


@dataclass(frozen=True)
class Tensor:
    """A float32 tensor `[tokens, 256]` of random bytes: one KiB a token."""

    key: str
    tokens: int
    payload: bytes = field(repr=False)
    dtype: str = "float32"

    @classmethod
    def random(cls, key: str, tokens: int) -> "Tensor":
        return cls(key, tokens, random.Random(key).randbytes(tokens * 1024))

    @property
    def shape(self) -> tuple[int, int]:
        return self.tokens, 256

    def header(self, transfer: int, chunk_bytes: int) -> Header:
        """The true one."""
        checksum = blake3(self.payload).digest(16)
        return Header(
            transfer, self.key, LAYOUT, self.shape, self.dtype, len(self.payload), chunk_bytes, checksum=checksum
        )

    def chunk(self, index: int, chunk_bytes: int) -> bytes:
        return self.payload[index * chunk_bytes : (index + 1) * chunk_bytes]


@dataclass
class Landed:
    """The buffers that a fetcher asked for, by key."""

    buffers: dict[str, bytearray] = field(default_factory=dict)

    def allocate(self, key: str, nbytes: int) -> bytearray:
        return self.buffers.setdefault(key, bytearray(nbytes))


class WaitingFetcher:
    """An EmbeddingFetcher whose answers are collected."""

    def __init__(
        self,
        config: WireConfig,
        keys: ClusterKeys | None = None,
        policy: Policy = "auto",
        allocate: Callable[[str, int], Any] | None = None,
    ) -> None:
        self.landed = Landed()
        self.answers: queue.SimpleQueue[FetchResult] = queue.SimpleQueue()
        self.fetcher = EmbeddingFetcher(config, keys, policy, allocate or self.landed.allocate)

    def start(self, tensor: Tensor, endpoint: str, layout: str = LAYOUT) -> None:
        self.fetcher.fetch(tensor.key, endpoint, tensor.shape, tensor.dtype, layout, self.answers.put)

    def answer(self) -> FetchResult:
        return self.answers.get(timeout=PATIENCE_S)

    def fetch(self, tensor: Tensor, endpoint: str, layout: str = LAYOUT) -> FetchResult:
        self.start(tensor, endpoint, layout)
        return self.answer()

    def has(self, tensor: Tensor) -> bool:
        return self.landed.buffers.get(tensor.key) == tensor.payload

    def close(self) -> None:
        self.fetcher.close()


class RawPeer:
    """A bare socket that says whatever the test wants."""

    def __init__(self, kind: int, *, bind: str | None = None, connect: str | None = None, **options: int) -> None:
        self._context = zmq.Context()
        self.socket = self._context.socket(kind)
        self.socket.linger = 0
        self.socket.rcvtimeo = self.socket.sndtimeo = PATIENCE_S * 1000
        for name, value in options.items():
            setattr(self.socket, name, value)
        if bind is not None:
            self.socket.bind(bind)
        if connect is not None:
            self.socket.connect(connect)
        self.endpoint = self.socket.getsockopt_string(zmq.LAST_ENDPOINT)
        self._watch = self.socket.get_monitor_socket(zmq.EVENT_DISCONNECTED)

    def disconnected(self) -> bool:
        """Wait until the other end has broken a connection; False if it does not."""
        return self._watch.poll(PATIENCE_S * 1000) > 0

    def close(self) -> None:
        self._context.destroy(linger=0)


class RawConsumer(RawPeer):
    """A DEALER that speaks to a real server."""

    def __init__(self, endpoint: str, **options: int) -> None:
        super().__init__(zmq.DEALER, connect=endpoint, **options)

    def ask(self, tensor: Tensor, transfer: int = 1, **changes: Any) -> None:
        fields = {
            "version": WIRE_VERSION,
            "layout": LAYOUT,
            "key": tensor.key,
            "transfer": transfer,
            "window": 4,
            "chunk_bytes": 4096,
        }
        self.say(Fetch(**(fields | changes)))

    def say(self, frame: Any) -> None:
        self.socket.send(encode(frame))

    def hear(self) -> tuple[Any, bytes]:
        """The next frame and its payload."""
        control, *payload = self.socket.recv_multipart()
        return decode_from_producer(control), b"".join(payload)


class RawProducer(RawPeer):
    """A ROUTER that answers a real fetcher."""

    def __init__(self, endpoint: str) -> None:
        super().__init__(zmq.ROUTER, bind=endpoint)
        self.peer = b""

    def hear(self) -> Any:
        self.peer, control = self.socket.recv_multipart()
        return decode_from_consumer(control)

    def say(self, frame: Any, *payload: bytes) -> None:
        self.socket.send_multipart([self.peer, encode(frame), *payload])

    def say_bytes(self, *frames: bytes) -> None:
        self.socket.send_multipart([self.peer, *frames])
