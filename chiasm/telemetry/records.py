"""What is measured where it happens, and kept there until somebody asks: the records of engines and of gateways.

All times are unix seconds of the machine that measured, all lengths seconds. Imports nothing of Chiasm, and nothing
heavier than msgspec.
"""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from enum import StrEnum
from typing import Generic, TypeVar

from msgspec import Struct


class Phase(StrEnum):
    """What a request goes through, in this order; items of one request under each other, and transfers under queueing.

    The same names stand in metrics, traces and pictures.
    """

    FETCH = "fetch"  # the gateway reads the body, brings images from the web, and judges them
    ENCODE_QUEUE = "encode_queue"  # an item waits: for an encoder's credit, then inside its engine
    PREPROCESS = "preprocess"  # an engine makes its input of what came: pixels, or the prompt's tokens
    ENCODE = "encode"  # the vision tower runs
    DECODE_QUEUE = "decode_queue"  # everything is encoded, or text only: waits for a decoder, then inside its engine
    TRANSFER = "transfer"  # an embedding travels from its encoder to the decoder
    PREFILL = "prefill"  # the prompt is computed, to the first token
    DECODE = "decode"  # the other tokens, to the last


class EngineCall(Struct, frozen=True, array_like=True):
    """One HTTP request that an engine has ended. A time that was never reached is that of the stage before it.

    Of an encoder, `scheduled` to `first_token` is the encode; it generates nothing.
    """

    call: str  # the `X-Request-Id` that it came with
    arrived: float  # its server began to read it
    queued: float  # preprocessed, and with the engine's own scheduler
    scheduled: float  # in a step for the first time
    first_token: float
    last_token: float
    prompt_tokens: int
    cached_tokens: int  # of the prompt, found in the prefix cache
    output_tokens: int
    preemptions: int
    finish: str  # vLLM's word: "stop", "length", "abort", ...


class Transfer(Struct, frozen=True, array_like=True):
    """One embedding that a decoder fetched, or failed to."""

    key: str  # vLLM's name of the item (`Embedding.key`)
    began: float
    ended: float
    nbytes: int
    failure: str = ""  # a code of `chiasm.wire.protocol`, if it failed


class Step(Struct, frozen=True, array_like=True):
    """One step of an engine: a batch of prompts' chunks and of streams' next tokens, or of images."""

    ended: float
    seconds: float  # from when its scheduler had nothing left to do but to wait for the result
    prompt_requests: int
    prompt_tokens: int
    streams: int
    stream_tokens: int
    images: int
    image_tokens: int
    running: int  # requests in the engine, after it
    waiting: int
    kv_part: float  # of the KV cache that is taken, 0 to 1


class Pause(Struct, frozen=True, array_like=True):
    """A text engine that stood still so that an image could be encoded on its card."""

    wanted: float  # when the scheduler's word reached its owner
    began: float  # it stood still
    ended: float  # it was told to go on; 0 while it stands still


class EngineRecords(Struct, frozen=True):
    """What one engine answers when it is asked what it remembers."""

    now: float  # its clock when it answered
    calls: tuple[EngineCall, ...] = ()
    transfers: tuple[Transfer, ...] = ()
    steps: tuple[Step, ...] = ()
    pauses: tuple[Pause, ...] = ()
    whole_since: float = 0.0  # of what ended before then, some is forgotten


R = TypeVar("R")


class Ring(Generic[R]):
    """The latest records, so many at most. `forgotten` counts those that made room for them."""

    def __init__(self, limit: int) -> None:
        self._records: deque[R] = deque(maxlen=limit)
        self.forgotten = 0

    def add(self, record: R) -> None:
        """One more, the latest."""
        self.forgotten += len(self._records) == self._records.maxlen
        self._records.append(record)

    def whole_since(self, ended: Callable[[R], float]) -> float:
        """Of what ended before then (by `ended`, unix seconds), some is forgotten; 0 if nothing is."""
        return ended(self._records[0]) if self.forgotten else 0.0

    def __iter__(self) -> Iterator[R]:
        return iter(self._records)

    def __len__(self) -> int:
        return len(self._records)


class Shelves(Ring[R]):
    """A ring whose records can be taken by what they are `about`, without a look at the others."""

    def __init__(self, limit: int, about: Callable[[R], str]) -> None:
        super().__init__(limit)
        self._about = about
        self._shelves: dict[str, list[R]] = {}

    def add(self, record: R) -> None:
        """One more, the latest."""
        if len(self) == self._records.maxlen:
            oldest = self._about(self._records[0])
            del self._shelves[oldest][0]
            if not self._shelves[oldest]:
                del self._shelves[oldest]
        super().add(record)
        self._shelves.setdefault(self._about(record), []).append(record)

    def of(self, about: str) -> Sequence[R]:
        """Those about that, the latest last."""
        return self._shelves.get(about, ())
