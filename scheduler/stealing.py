"""Work stealing: idle encoders generate text, revocably.

A *thief* is a text engine on an encoder's card. While no image waits there it takes queued text requests that have not
been started, where that pays; the image that comes goes first. Owns who may steal, how patient each thief is, and when
stolen requests must go back; `scheduler.thieving` acts on it. Imports only `chiasm.nouns`, the standard library and
its neighbours.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

from chiasm.nouns import RequestId, WorkerId
from scheduler.crew import DecodeCrews
from scheduler.finish_index import FinishIndex
from scheduler.requests import LiveRequest
from scheduler.workers import DecodeWorker

Mode = Literal["off", "yield", "share"]

FIRST_PATIENCE = 2.0
"""Times the mean encode, that an encoder must have been idle before its card steals."""

LONGEST_PATIENCE_S = 60.0
PATIENCE_HALVES = 3.0
"""Times the mean encode, in which half of what pre-emptions have added to a thief's patience is forgotten. So patience
stays short where images come less often than that, and grows to the longest where they come more often."""

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

    def patience(self, mean_encode_s: float, now: float) -> float:
        """How long its encoder must have been idle."""
        if not mean_encode_s:
            return 0.0
        added: float = self.patience_s * 0.5 ** ((now - self.preempted_at) / (PATIENCE_HALVES * mean_encode_s))
        return min(FIRST_PATIENCE * mean_encode_s + added, LONGEST_PATIENCE_S)


class Stealing:
    """All `thieves`, by the encoder whose card they are on. `paused` are those whose engines are held.

    Args:
        itl_slo_s: the objective for inter-token latency: a thief's step must keep to it; beyond it
            a pause is compared with a return.
    """

    def __init__(self, itl_slo_s: float) -> None:
        self._itl_slo_s = itl_slo_s
        self.thieves: dict[WorkerId, Thief] = {}
        self._by_finish: FinishIndex[DecodeWorker] = FinishIndex()
        self.paused: dict[WorkerId, Thief] = {}

    def add(self, worker: DecodeWorker, orphans: list[LiveRequest], now: float) -> Thief:
        """A thief has registered."""
        thief = self.thieves[worker.host] = Thief(worker, now, orphans, observed_at=now)
        self.update(thief)
        return thief

    def remove(self, worker: DecodeWorker) -> None:
        """A thief is lost."""
        thief = self.thieves.get(worker.host)
        if thief is not None and thief.worker is worker:
            del self.thieves[worker.host]
            self.paused.pop(worker.host, None)
            self._by_finish.remove(worker)

    def update(self, thief: Thief) -> None:
        """What it holds, its rate, or what keeps it from stealing has changed."""
        thief.prune()
        self._by_finish.update(thief.worker, not thief.busy and not thief.returning and thief.worker.has_credit)

    def best(
        self, tokens: int, victims: "Victims", mean_encode_s: Callable[[WorkerId], float], now: float
    ) -> Thief | None:
        """Who would be done first with so many tokens, among those that may take one more request."""

        def able(worker: DecodeWorker) -> bool:
            thief = self.thieves[worker.host]
            patience_s = thief.patience(mean_encode_s(worker.host), now)
            return now - thief.idle_since >= patience_s and len(worker.running) < victims.cap(worker)

        worker = self._by_finish.best(tokens, able)
        return None if worker is None else self.thieves[worker.host]

    def gain_s(self, request: LiveRequest, thief: Thief, victims: "Victims", now: float) -> float:
        """Seconds by which `request` is done sooner if `thief` takes it now; minus infinity beyond the objective.

        It saves the wait in the queue. It costs what each token takes longer than with the victim, and the pauses: a
        card whose encoder is busy for a share b of the time generates for the rest, so what takes t takes t b / (1 - b)
        more. Without victims it would wait for ever.
        """
        itl_s = (len(thief.worker.running) + 1) / thief.worker.rate.tokens_per_s
        if itl_s > self._itl_slo_s:
            return -math.inf
        if not victims.live:
            return math.inf
        generating_s = request.output_tokens * itl_s
        busy_share = thief.busy_share(now)
        pauses_s = generating_s * busy_share / max(1 - busy_share, 1e-3)
        return victims.wait_s - request.output_tokens * (itl_s - victims.itl_s) - pauses_s

    def stall_s(self, thief: Thief, still_s: float, now: float) -> float:
        """How long its pause of so far, which will last so long yet, keeps streams waiting; 0 within the objective."""
        if thief.paused_at is None:
            return 0.0
        stall_s = now - thief.paused_at + still_s
        return stall_s if stall_s > self._itl_slo_s else 0.0

    def made(self, request: LiveRequest, thief: Thief) -> float:
        """How many tokens of a request a thief that is held has generated, as it is as fast as it is."""
        if request.decoder is None or thief.paused_at is None:
            return 0.0
        tokens_per_s = thief.worker.rate.tokens_per_s / len(thief.holds())
        return min(request.decoder.ran_s(request.id, thief.paused_at) * tokens_per_s, request.output_tokens)

    def preempted(self, thief: Thief, mean_encode_s: float, now: float) -> None:
        """An image has come while it generated: it waits twice as long before it steals again."""
        patience_s = thief.patience(mean_encode_s, now)
        thief.paused_at = thief.preempted_at = now
        self.paused[thief.worker.host] = thief
        thief.patience_s = min(2 * patience_s - FIRST_PATIENCE * mean_encode_s, LONGEST_PATIENCE_S)

    def resumed(self, thief: Thief, now: float) -> None:
        """Its engine is held no longer."""
        if thief.paused_at is not None:
            thief.worker.stood_still_s += now - thief.paused_at
        thief.paused_at = None
        self.paused.pop(thief.worker.host, None)


@dataclass(frozen=True, slots=True)
class Victims:
    """The workers that requests are stolen from, at this moment."""

    crew: DecodeCrews
    owed: int  # tokens that what they hold, and what waits for them, may generate

    @property
    def live(self) -> bool:
        """Are there any? Else there is no wait and no inter-token latency to compare with."""
        return self.crew.workers > 0

    @property
    def wait_s(self) -> float:
        """Until the last request of the queue has its turn."""
        return self.owed / self.crew.tokens_per_s

    @property
    def itl_s(self) -> float:
        """Of one more stream."""
        return (self.crew.running + self.crew.workers) / self.crew.tokens_per_s

    def turn_s(self, ahead: int, free: int, now: float) -> float:
        """Until a request has a credit there that is the next in the queue but for so many others.

        Each credit is held for the mean time; before any answer has shown it, for as long as all that they owe takes.
        So it becomes free when that has passed since it was handed out; and as some are held for longer, they become
        free no faster than one after the other in that time.

        Args:
            free: credits that such requests could have at once.
        """
        if ahead < free:
            return 0.0
        running = self.crew.running + free
        if not self.live or not running:
            return math.inf
        held_s = self.crew.held.seconds or self.crew.owed / self.crew.tokens_per_s
        place = ahead - free + 1
        evenly_s = place * held_s / running
        since = self.crew.oldest(place)
        if not since:
            return evenly_s
        rounds, last = divmod(place - 1, len(since))
        return max(evenly_s, since[last] + (1 + rounds) * held_s - now)

    def again_s(self, request: LiveRequest, made: float, prompt_rate: float) -> float:
        """What a return costs besides the wait: a decoder computes anew what the thief's engine has in its cache.

        Of a stream that is a prompt, with the tokens `made` so far; any other answer is generated again from its first
        token on.

        Args:
            prompt_rate: tokens of prompts a second, of one encoder: a decoder counts as as fast until it was seen.
        """
        measured = self.crew.decoders.prompt_rate
        if measured is not None:
            prompt_rate = measured.tokens_per_s
        if request.streams:
            return (request.prompt_tokens + made) / prompt_rate
        return request.prompt_tokens / prompt_rate + made * self.itl_s

    def cap(self, thief: DecodeWorker) -> int:
        """Most requests that a thief may hold: what a victim holds in mean, by how much slower it is; at least one."""
        if not self.live:
            return thief.credits
        return max(1, math.floor(self.crew.running * thief.rate.tokens_per_s / self.crew.tokens_per_s))
