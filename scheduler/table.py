"""Which workers are registered now, which kinds ever were, and when each was last heard of.

Owns the workers' coming and going, not what they hold. Imports only `chiasm.{nouns,messages}`, the standard library
and `scheduler.{crew,workers}`.
"""

import math
from collections import OrderedDict
from collections.abc import Iterator

from chiasm.messages import PROTOCOL_VERSION, Register
from chiasm.nouns import Role, WorkerId
from scheduler.crew import Crew, DecodeCrews
from scheduler.workers import DecodeWorker, EncodeWorker


class WorkerTable:
    """The registered workers by kind, in order of registration, and when each was last heard of.

    `split_lives`: could an image be encoded and decoded now? `whole_lives`: is a `whole` worker registered?
    `prefers_whole`: should an image request go unsplit, because only that works now? `both_live`: may it go either way?
    `text_known`, `images_known`: have there ever been the workers that such a request needs? Those that are gone are
    expected back.
    """

    def __init__(self, look_ahead: int) -> None:
        self.split_lives = self.whole_lives = self.prefers_whole = self.both_live = False
        self.text_known = self.images_known = False
        self._look_ahead = look_ahead
        self.encoders: dict[WorkerId, EncodeWorker] = {}
        self.decoders: dict[Role, dict[WorkerId, DecodeWorker]] = {Role.DECODER: {}, Role.TEXT: {}, Role.WHOLE: {}}
        self._ever: set[Role] = set()  # roles that some worker has had
        self.decode_crews = DecodeCrews()  # without the thieves
        self.thief_crew = Crew()
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
        arrival = self._registrations
        if register.role is Role.ENCODER:
            worker = self.encoders[register.worker] = EncodeWorker(register, arrival, self._look_ahead)
        else:
            worker = self.decoders[register.role][register.worker] = DecodeWorker(register, arrival, self._look_ahead)
            (self.thief_crew if worker.host else self.decode_crews.of[worker.role]).add(worker)
        self._heard[register.worker] = now
        self._ever.add(register.role)
        self.text_known = not self._ever.isdisjoint(self.decoders)
        self.images_known = {Role.ENCODER, Role.DECODER} <= self._ever or Role.WHOLE in self._ever
        self._see_what_lives()
        return worker

    def remove(self, worker: EncodeWorker | DecodeWorker) -> None:
        """Strikes a worker that is in the table."""
        if isinstance(worker, EncodeWorker):
            del self.encoders[worker.id]
        else:
            del self.decoders[worker.role][worker.id]
            worker.crew.remove(worker)
        del self._heard[worker.id]
        self._see_what_lives()

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

    def _see_what_lives(self) -> None:
        self.split_lives = bool(self.encoders and self.decoders[Role.DECODER])
        self.whole_lives = bool(self.decoders[Role.WHOLE])
        self.prefers_whole = self.whole_lives and not self.split_lives
        self.both_live = self.whole_lives and self.split_lives

    def check_integrity(self) -> None:
        """Raises AssertionError where the books of any worker do not add up."""
        assert self._heard.keys() == {worker.id for worker in self}, "a worker is in two pools, or in none"
        assert list(self._heard.values()) == sorted(self._heard.values()), "silence is out of order"
        for worker in self:
            worker.check_integrity()
        for role, crew in self.decode_crews.of.items():
            crew.check_integrity([worker for worker in self.decoders[role].values() if not worker.host])
        self.thief_crew.check_integrity([worker for worker in self.all_decoders() if worker.host])


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
