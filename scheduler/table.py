"""Which workers are registered now, which kinds ever were, and when each was last heard of.

Owns the workers' coming and going, not what they hold. Imports only `chiasm.{nouns,messages}`, the standard library
and `scheduler.workers`.
"""

import math
from collections import OrderedDict
from collections.abc import Iterator

from chiasm.messages import PROTOCOL_VERSION, Register
from chiasm.nouns import Role, WorkerId
from scheduler.workers import DecodeWorker, EncodeWorker


class WorkerTable:
    """The registered workers by kind, in order of registration, and when each was last heard of."""

    def __init__(self, look_ahead: int) -> None:
        self._look_ahead = look_ahead
        self.encoders: dict[WorkerId, EncodeWorker] = {}
        self.decoders: dict[Role, dict[WorkerId, DecodeWorker]] = {Role.DECODER: {}, Role.TEXT: {}, Role.WHOLE: {}}
        self.ever: set[Role] = set()  # roles that some worker has had: one that is gone is expected back
        self._heard: OrderedDict[WorkerId, float] = OrderedDict()  # longest silence first
        self._registrations = 0

    def __iter__(self) -> Iterator[EncodeWorker | DecodeWorker]:
        yield from self.encoders.values()
        yield from self.all_decoders()

    def all_decoders(self) -> Iterator[DecodeWorker]:
        """Every worker that generates."""
        for pool in self.decoders.values():
            yield from pool.values()

    def get(self, worker: WorkerId) -> EncodeWorker | DecodeWorker | None:
        """The registered worker of that id."""
        if worker in self.encoders:
            return self.encoders[worker]
        return next((pool[worker] for pool in self.decoders.values() if worker in pool), None)

    def add(self, register: Register, now: float) -> EncodeWorker | DecodeWorker:
        """Enters a worker that is not in the table."""
        worker: EncodeWorker | DecodeWorker
        self._registrations += 1
        order = self._registrations
        if register.role is Role.ENCODER:
            worker = self.encoders[register.worker] = EncodeWorker(register, order, self._look_ahead)
        else:
            worker = self.decoders[register.role][register.worker] = DecodeWorker(register, order, self._look_ahead)
        self.ever.add(register.role)
        self._heard[register.worker] = now
        return worker

    def remove(self, worker: EncodeWorker | DecodeWorker) -> None:
        """Strikes a worker that is in the table."""
        pool = self.encoders if isinstance(worker, EncodeWorker) else self.decoders[worker.role]
        del pool[worker.id], self._heard[worker.id]

    def heard(self, worker: WorkerId, now: float) -> bool:
        """Notes a sign of life; False if the worker is not in the table."""
        if worker not in self._heard:
            return False
        self._heard[worker] = now
        self._heard.move_to_end(worker)
        return True

    def silent_since(self, time: float) -> list[WorkerId]:
        """The workers not heard of since `time`."""
        silent = []
        for worker, heard in self._heard.items():  # oldest first: stops at the first that is alive
            if heard > time:
                break
            silent.append(worker)
        return silent

    @property
    def split_lives(self) -> bool:
        """Could an image be encoded and decoded now?"""
        return bool(self.encoders and self.decoders[Role.DECODER])

    @property
    def split_known(self) -> bool:
        """Is there, or was there, both an encoder and a decoder?"""
        return {Role.ENCODER, Role.DECODER} <= self.ever

    @property
    def prefers_whole(self) -> bool:
        """Should an image request go unsplit, because only that works now?"""
        return self.whole_lives and not self.split_lives

    def ever_suited(self, has_items: bool) -> bool:
        """Has there ever been the workers that a request needs? Those that are gone are expected back."""
        if has_items:
            return self.split_known or Role.WHOLE in self.ever
        return not self.ever.isdisjoint(self.decoders)

    @property
    def whole_lives(self) -> bool:
        """Is a `whole` worker registered?"""
        return bool(self.decoders[Role.WHOLE])

    def check_integrity(self) -> None:
        """Raises AssertionError where the books of any worker do not add up."""
        assert self._heard.keys() == {worker.id for worker in self}, "a worker is in two pools, or in none"
        assert list(self._heard.values()) == sorted(self._heard.values()), "silence is out of order"
        for worker in self:
            worker.check_integrity()


def fault(register: Register) -> str | None:
    """Why this registration cannot be accepted, if it cannot."""
    if register.protocol != PROTOCOL_VERSION:
        return f"speaks protocol {register.protocol}, this scheduler speaks {PROTOCOL_VERSION}"
    if register.slots < 1:
        return f"slots must be at least 1, not {register.slots}"
    if not 0 < register.tokens_per_s < math.inf:
        return f"tokens_per_s must be positive and finite, not {register.tokens_per_s}"
    if register.role is not Role.ENCODER and register.kv_tokens < 1:
        return f"a {register.role} worker must have kv_tokens, not {register.kv_tokens}"
    return None
