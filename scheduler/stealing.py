"""Work stealing: idle encoders generate text, revocably.

A *thief* is a text engine on an encoder's card. While no image waits there it takes queued text requests that have not
been started, where that pays; the image that comes goes first. Owns who may steal, how patient each thief is, and what
a theft gains; `scheduler.thieving` acts on it. Imports only `chiasm.nouns`, the standard library and its neighbours.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from chiasm.nouns import RequestId, WorkerId
from scheduler.clock import Clock
from scheduler.finish_index import LOOKED_AT
from scheduler.ordering import PriorityQueue
from scheduler.requests import LiveRequest
from scheduler.victims import Victims
from scheduler.workers import DecodeWorker, EncodeWorker

Mode = Literal["off", "yield", "share"]

FIRST_PATIENCE = 2.0
"""Times the mean encode, that an encoder must have been idle before its card steals."""

LONGEST_PATIENCE_S = 60.0
PATIENCE_HALVES = 3.0
"""Times the mean encode, in which half of what pre-emptions have added to a thief's patience is forgotten. So patience
stays short where images come less often than that, and grows to the longest where they come more often."""

TRIED_AGAIN_S = 60.0
"""After so long with nothing to do, a thief that has proved too slow for the objective may take one request again."""

BUSY_MEMORY_S = 60.0
"""Time constant of the share of time that an encoder is found busy."""


@dataclass(slots=True, eq=False)
class Thief:
    """A text engine on an encoder's card. Times are the core's, in seconds.

    `orphans` are requests that its engine was given before it registered, and that may still run there: a worker that
    was given up and lives registers anew.
    """

    worker: DecodeWorker
    idle_since: float
    orphans: list[LiveRequest] = field(default_factory=list)
    paused_at: float | None = None
    patience_s: float = 0.0  # beyond the first; grows by pre-emptions
    preempted_at: float = 0.0
    too_slow_since: float | None = None  # for the objective, while it holds nothing
    busy: bool = False
    observed_at: float = 0.0
    busy_share_then: float = 0.0
    returning: set[RequestId] = field(default_factory=set)

    def holds(self) -> list[RequestId]:
        """What its engine runs, or may still run."""
        return [*self.worker.running, *(one.id for one in self.orphans)]

    def prune(self) -> None:
        """Forgets the orphans that have been reported on, and so what is asked for and not held any more."""
        self.orphans = [one for one in self.orphans if self._may_run(one)]
        self.returning.intersection_update(self.holds())

    def _may_run(self, orphan: LiveRequest) -> bool:
        decoder = orphan.decoder
        return decoder is not None and decoder.id == self.worker.id and not decoder.registered

    def observe(self, busy: bool, now: float) -> None:
        """The encoder has work, or none, from now on."""
        self.busy_share_then = self.busy_share(now)
        self.observed_at, self.busy = now, busy

    def busy_share(self, now: float) -> float:
        """Of the time of late, the share in which its encoder had work."""
        kept = math.exp((self.observed_at - now) / BUSY_MEMORY_S)
        return kept * self.busy_share_then + (1 - kept) * self.busy

    def pauses_s(self, now: float) -> float:
        """For how long it is held, as its encoder has been busy of late, for each second in which it generates."""
        busy_share = self.busy_share(now)
        return busy_share / max(1 - busy_share, 1e-3)

    def patience(self, mean_encode_s: float, now: float) -> float:
        """How long its encoder must have been idle."""
        if not mean_encode_s:
            return 0.0
        added: float = self.patience_s * 0.5 ** ((now - self.preempted_at) / (PATIENCE_HALVES * mean_encode_s))
        return min(FIRST_PATIENCE * mean_encode_s + added, LONGEST_PATIENCE_S)


class Stealing:
    """All `thieves`, by the encoder whose card they are on. `paused` are those whose engines are held.

    Those that may steal are kept by what a token takes there if they take one more request, as the objective and a
    thief's share of requests bound that too: who is bound by them is behind all who are not. Those that hold nothing
    are kept apart, because each of them may take one. So few are looked at.

    Args:
        encoders: the registered ones.
        itl_slo_s: the objective for inter-token latency: a thief's step must keep to it; beyond it
            a pause is compared with a return.
    """

    def __init__(self, mode: Mode, encoders: Mapping[WorkerId, EncodeWorker], itl_slo_s: float, clock: Clock) -> None:
        self._pauses = mode == "yield"
        self._encoders = encoders
        self._itl_slo_s = itl_slo_s
        self._clock = clock
        self.thieves: dict[WorkerId, Thief] = {}
        self.paused: dict[WorkerId, Thief] = {}
        self.impatient: dict[WorkerId, Thief] = {}  # those that could steal, but for their patience
        self._free: PriorityQueue[DecodeWorker] = PriorityQueue()
        self._generating: PriorityQueue[DecodeWorker] = PriorityQueue()
        self._by_room: PriorityQueue[DecodeWorker] = PriorityQueue()  # the latter, by their room

    def add(self, worker: DecodeWorker, orphans: list[LiveRequest]) -> Thief:
        """A thief has registered."""
        now = self._clock.now
        thief = self.thieves[worker.host] = Thief(worker, now, orphans, observed_at=now)
        self.update(thief)
        return thief

    def remove(self, worker: DecodeWorker) -> None:
        """A thief is lost."""
        thief = self.thieves.get(worker.host)
        if thief is not None and thief.worker is worker:
            del self.thieves[worker.host]
            self.paused.pop(worker.host, None)
            self._take_out(worker)

    def update(self, thief: Thief) -> None:
        """What it holds, its rate, or what keeps it from stealing has changed."""
        thief.prune()
        worker = thief.worker
        if worker.running or worker.next_itl_s <= self._itl_slo_s:
            thief.too_slow_since = None
        elif thief.too_slow_since is None:
            thief.too_slow_since = self._clock.now
        self._take_out(worker)
        if thief.busy or thief.returning or not worker.has_credit:
            return
        if self._clock.now - thief.idle_since < self.patience_s(thief):
            self.impatient[worker.host] = thief
        elif worker.running:
            self._generating.put(worker, worker.next_itl_s)
            self._by_room.put(worker, -worker.room)
        else:
            self._free.put(worker, worker.next_itl_s)

    def tick(self) -> None:
        """Time has passed: somebody's patience may be over, or somebody may try again whether it keeps the objective.

        A rate is measured by answers, and those that had few tokens and long prompts may have given a thief a bad name,
        which it could not get rid of if it were given nothing more.
        """
        for thief in self.thieves.values():
            if thief.too_slow_since is not None and self._clock.now - thief.too_slow_since >= TRIED_AGAIN_S:
                thief.worker.count_as(1.01 / self._itl_slo_s)
                self.update(thief)
            elif thief.orphans or thief.worker.host in self.impatient:  # the end of orphans shows in no book of it
                self.update(thief)

    def _take_out(self, worker: DecodeWorker) -> None:
        self.impatient.pop(worker.host, None)
        for queue in (self._free, self._generating, self._by_room):
            queue.discard(worker)

    def anybody(self, victims: Victims) -> bool:
        """Do the objective and its share allow one more request to any thief?"""
        return self._leads(self._free, victims) or self._leads(self._generating, victims)

    def _leads(self, queue: PriorityQueue[DecodeWorker], victims: Victims, limit_itl_s: float = math.inf) -> bool:
        """May the first of a queue take one more request, at so much a token? If not, so may nobody behind it."""
        first = queue.first
        return first is not None and first.next_itl_s <= limit_itl_s and self._may_take(first, victims)

    def _may_take(self, worker: DecodeWorker, victims: Victims) -> bool:
        return worker.next_itl_s <= self._itl_slo_s and len(worker.running) < victims.cap(worker)

    def best(self, requests: Sequence[LiveRequest], victims: Victims) -> "Theft | None":
        """The request that gains most, the oldest on a tie, and the thief that it gains most with; None if none gains.

        Of those that hold something and of those that do not, the first that gains anything with one of these requests
        is taken for the best; where a full cache keeps the first few from that, the one with the most room is asked.
        """
        now = self._clock.now
        shortest_first = sorted(requests, key=lambda request: request.output_tokens)

        def gains(worker: DecodeWorker) -> bool:
            # Where the wait is not worth it for the shortest, a token takes longer than with a victim; so it is not
            # for any.
            shortest = next((one for one in shortest_first if worker.admits(one.kv_tokens)), None)
            return shortest is not None and self._theft(shortest, worker, victims, now).gain_s > 0

        thieves: list[DecodeWorker | None] = []
        limit_itl_s = victims.limit_itl_s(shortest_first[0].output_tokens) if requests else 0.0
        if self._leads(self._free, victims, limit_itl_s):
            thieves.append(self._free.first_that(gains, LOOKED_AT))
        if self._leads(self._generating, victims, limit_itl_s):
            found = self._generating.first_that(gains, LOOKED_AT)
            thieves.append(found or self._by_room.first_that(gains, 1))
        thefts = [
            self._theft(request, worker, victims, now)
            for worker in thieves
            if worker is not None
            for request in requests
            if worker.admits(request.kv_tokens)
        ]
        return max(thefts, key=_preference, default=None)

    def _theft(self, request: LiveRequest, worker: DecodeWorker, victims: Victims, now: float) -> "Theft":
        thief = self.thieves[worker.host]
        itl_s = worker.next_itl_s
        if not self._may_take(worker, victims):
            return Theft(thief, request, -math.inf)
        if not victims.live:
            return Theft(thief, request, math.inf)
        pauses_s = request.output_tokens * itl_s * thief.pauses_s(now) if self._pauses else 0.0
        gain_s = victims.wait_s - request.output_tokens * (itl_s - victims.itl_s) - pauses_s
        return Theft(thief, request, gain_s, pauses_s)

    def stall_s(self, thief: Thief, still_s: float) -> float:
        """How long its pause of so far, which will last so long yet, keeps streams waiting; 0 within the objective."""
        if thief.paused_at is None:
            return 0.0
        stall_s = self._clock.now - thief.paused_at + still_s
        return stall_s if stall_s > self._itl_slo_s else 0.0

    def made(self, request: LiveRequest, thief: Thief) -> float:
        """How many tokens of a request a thief that is held has generated, as it is as fast as it is."""
        if request.decoder is None or thief.paused_at is None:
            return 0.0
        tokens_per_s = thief.worker.rate.tokens_per_s / len(thief.holds())
        return min(request.decoder.ran_s(request.id, thief.paused_at) * tokens_per_s, request.output_tokens)

    def preempted(self, thief: Thief) -> None:
        """An image has come while it generated: it waits twice as long before it steals again."""
        mean_encode_s, now = self._mean_encode_s(thief), self._clock.now
        patience_s = self.patience_s(thief)
        thief.paused_at = thief.preempted_at = now
        self.paused[thief.worker.host] = thief
        thief.patience_s = min(2 * patience_s - FIRST_PATIENCE * mean_encode_s, LONGEST_PATIENCE_S)

    def resumed(self, thief: Thief) -> None:
        """Its engine is held no longer."""
        if thief.paused_at is not None:
            thief.worker.stood_still_s += self._clock.now - thief.paused_at
        thief.paused_at = None
        self.paused.pop(thief.worker.host, None)

    def patience_s(self, thief: Thief) -> float:
        """For how long its encoder must have been idle."""
        return thief.patience(self._mean_encode_s(thief), self._clock.now)

    def _mean_encode_s(self, thief: Thief) -> float:
        encoder = self._encoders.get(thief.worker.host)
        return encoder.encode_time.seconds if encoder is not None else 0.0

    def check_integrity(self, requests: Sequence[LiveRequest], victims: Victims) -> None:
        """Raises AssertionError where a thief is out of place, or the search finds none though there is one."""
        for queue in (self._free, self._generating, self._by_room):
            queue.check_integrity()
        able = [*self._free.unordered(), *self._generating.unordered()]
        assert set(self._by_room.unordered()) == set(self._generating.unordered()), "thieves by room"
        for thief in self.thieves.values():
            may = thief.worker.has_credit and not (thief.busy or thief.returning)
            assert may == (thief.worker in able or thief.worker.host in self.impatient), f"{thief.worker.id} is astray"
        if len(able) <= LOOKED_AT:  # else some may be overlooked
            every = [(one, each) for one in requests for each in able if each.admits(one.kv_tokens)]
            gains = any(self._theft(*pair, victims, self._clock.now).gain_s > 0 for pair in every)
            assert gains == (self.best(requests, victims) is not None), "a theft that gains is not found"


@dataclass(frozen=True, slots=True)
class Theft:
    """What it would be if `thief` took `request` now.

    It saves the wait in the queue. It costs what each token takes longer than with a victim, and the pauses: a card
    whose encoder is busy for a share b of the time generates for the rest, so what takes t takes t b / (1 - b) more.
    Without victims it would wait for ever.

    `gain_s`: by how much it is done sooner; minus infinity beyond the objective, or what the thief may hold.
    """

    thief: Thief
    request: LiveRequest
    gain_s: float
    pauses_s: float = 0.0


def _preference(theft: Theft) -> tuple[float, int, float, int]:
    worker = theft.thief.worker
    return theft.gain_s, -theft.request.arrival, -worker.next_itl_s, -worker.arrival
