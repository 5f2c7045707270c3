"""Drives a core in few words, and checks its integrity after every step."""

from chiasm.config import SchedulerConfig
from chiasm.messages import (
    PROTOCOL_VERSION,
    Cancel,
    Decode,
    DecodeBegun,
    DecodeDone,
    DecodeFailed,
    Encode,
    EncodeDone,
    EncodeFailed,
    Evicted,
    Heartbeat,
    Lost,
    Register,
    Reject,
    RejectReason,
    Returned,
    Status,
    Submit,
)
from chiasm.nouns import Embedding, Item, ItemUuid, RequestId, Role, WorkerId
from scheduler.core import Core
from scheduler.events import Decision, Event
from scheduler.stealing import Mode


def embedding(uuid: str, worker: str, tokens: int = 100, key: str | None = None) -> Embedding:
    return Embedding(ItemUuid(uuid), key or f"key-{uuid}", "image", {}, f"tcp://{worker}", (tokens, 8), "bfloat16")


def register(
    worker: str,
    role: Role,
    slots: int = 1,
    kv: int = 1000,
    rate: float = 100.0,
    protocol: int = PROTOCOL_VERSION,
    store: int = 0,
    host: str = "",
    prefill: int = 0,
) -> Register:
    sizes = (slots, kv, rate, store)
    return Register(WorkerId(worker), role, "node", f"http://{worker}", *sizes, WorkerId(host), prefill, protocol)


class Driver:
    """A core without look-ahead (unless told otherwise) and a clock that moves only when told."""

    def __init__(self, stealing: Mode = "yield", itl_slo_s: float = 1.0, **config: float) -> None:
        self.config = SchedulerConfig.model_validate({"look_ahead": 0} | config)
        self.core = Core(self.config, stealing=stealing, itl_slo_s=itl_slo_s)
        self.now = 1000.0

    def do(self, event: Event) -> list[Decision]:
        decisions = self.core.handle(event, self.now)
        self.core.check_integrity()
        return decisions

    def tick(self, seconds: float = 0.0) -> list[Decision]:
        self.now += seconds
        decisions = self.core.tick(self.now)
        self.core.check_integrity()
        return decisions

    def encoder(self, worker: str, slots: int = 1, rate: float = 100.0, store: int = 0) -> list[Decision]:
        return self.do(register(worker, Role.ENCODER, slots, 0, rate, store=store))

    def decoder(
        self,
        worker: str,
        slots: int = 1,
        kv: int = 1000,
        rate: float = 100.0,
        role: Role = Role.DECODER,
        prefill: int = 0,
    ) -> list[Decision]:
        return self.do(register(worker, role, slots, kv, rate, prefill=prefill))

    def thief(self, worker: str, host: str, slots: int = 4, kv: int = 1000, rate: float = 100.0) -> list[Decision]:
        return self.do(register(worker, Role.TEXT, slots, kv, rate, host=host))

    def submit(
        self,
        request: str,
        *uuids: str,
        tokens: int = 100,
        text: int = 10,
        output: int = 10,
        deadline: float = 60.0,
        tenant: str = "",
        stealable: bool = False,
        streams: bool = False,
    ) -> list[Decision]:
        items = tuple(Item(ItemUuid(uuid), "image", tokens) for uuid in uuids)
        return self.do(Submit(RequestId(request), items, text, output, deadline, tenant, 1.0, streams, stealable))

    def encoded(
        self,
        request: str,
        worker: str,
        uuid: str,
        tokens: int = 100,
        seconds: float = 1.0,
        key: str | None = None,
        nbytes: int = 0,
    ) -> list[Decision]:
        found = embedding(uuid, worker, tokens, key)
        return self.do(EncodeDone(RequestId(request), WorkerId(worker), found, seconds, nbytes))

    def encode_failed(
        self, request: str, worker: str, uuid: str, retryable: bool = True, unreachable: bool = False
    ) -> list[Decision]:
        ids = RequestId(request), WorkerId(worker), ItemUuid(uuid)
        return self.do(EncodeFailed(*ids, "it broke", retryable, unreachable))

    def begun(self, request: str, worker: str, seconds: float = 0.5) -> list[Decision]:
        return self.do(DecodeBegun(RequestId(request), WorkerId(worker), seconds))

    def decoded(self, request: str, worker: str, output: int = 10, seconds: float = 1.0) -> list[Decision]:
        return self.do(DecodeDone(RequestId(request), WorkerId(worker), output, seconds))

    def decode_failed(
        self, request: str, worker: str, *lost: str, retryable: bool = True, unreachable: bool = False
    ) -> list[Decision]:
        uuids = tuple(ItemUuid(uuid) for uuid in lost)
        failed = DecodeFailed(RequestId(request), WorkerId(worker), "it broke", retryable, uuids, unreachable)
        return self.do(failed)

    def returned(self, request: str, worker: str, output: int) -> list[Decision]:
        return self.do(Returned(RequestId(request), WorkerId(worker), output))

    def cancel(self, request: str) -> list[Decision]:
        return self.do(Cancel(RequestId(request)))

    def lost(self, worker: str) -> list[Decision]:
        return self.do(Lost(WorkerId(worker), "it died"))

    def evicted(self, worker: str, *keys: str) -> list[Decision]:
        return self.do(Evicted(WorkerId(worker), keys))

    def heartbeat(self, worker: str) -> list[Decision]:
        return self.do(Heartbeat(WorkerId(worker)))

    @property
    def status(self) -> Status:
        return self.core.status(RequestId("status"), self.now)

    def count(self, counter: str) -> int:
        return self.status.counters[counter]

    def running(self, worker: str) -> int:
        return next(one.running for one in self.status.workers if one.worker == worker)


def encode(request: str, uuid: str, worker: str) -> Encode:
    return Encode(RequestId(request), ItemUuid(uuid), WorkerId(worker), f"http://{worker}")


def decode(request: str, worker: str, *held: tuple[str, str], role: Role = Role.DECODER) -> Decode:
    """`held` are pairs of an item and the encoder that has its embedding."""
    embeddings = tuple(embedding(uuid, encoder) for uuid, encoder in held)
    return Decode(RequestId(request), WorkerId(worker), role, f"http://{worker}", embeddings)


def rejected(decisions: list[Decision]) -> list[tuple[str, RejectReason]]:
    """The Rejects among them, as (request, reason)."""
    return [(one.request, one.reason) for one in decisions if isinstance(one, Reject)]


def placed(decisions: list[Decision]) -> list[str]:
    """The workers of the Encodes and Decodes among them."""
    return [one.worker for one in decisions if isinstance(one, Encode | Decode)]
