"""One worker: what it may hold, what it holds, and how fast it has proved to be.

Owns credits, reservations and measured rates; knows nothing of requests but their ids. A worker object stands for one
*engine*: a worker that registers again gets a new object, so what was reserved on the old one is void with it.
Imports only `chiasm.{nouns,messages}`, msgspec, the standard library and `scheduler.{ordering,rate,crew}`.
"""

import math
from itertools import islice

from msgspec import Struct

from chiasm.messages import Register
from chiasm.nouns import ItemUuid, RequestId, WorkerId
from scheduler.crew import Crew
from scheduler.ordering import PriorityQueue
from scheduler.rate import MeanTime, Rate

STORE_SHARE = 0.8
"""Of a store, at most, for embeddings that wait for a decoder; the rest is for what is being encoded or fetched."""

HAND_OVER_S = 0.1
"""While an engine has less encoding than this at hand behind what it encodes, it is to get more: time enough for an
answer to go to the gateway, the next item to come, and its preprocessing. What lies there for longer
gains nothing, and an engine encodes all of it in one step: an item of an earlier request would be held up by those of
later ones."""

PREFILLS_AT_ONCE = 2
"""Prompts with images, in steps of a decoder: one that is being computed, and the next, so that no step goes short."""


LOOK_AHEAD_PER_SLOTS = 8
"""A generating engine may hold one request beyond its slots for so many of them. Looking ahead saves a slot the step in
which its next request is on the way, and costs whoever comes next a completion, which is seldom where slots are few."""


class Worker:
    """What every registered worker has.

    `credits` bounds what may be handed to its engine at once; `owed` are the tokens that it has been given and has not
    finished; `arrival` is its place in the order of all registrations. Until its rate is `measured` it is assumed.
    """

    def __init__(self, register: Register, arrival: int, look_ahead: int) -> None:
        self.id = register.worker
        self.arrival = arrival
        self.role = register.role
        self.node = register.node
        self.fallback = register.fallback
        self.url = register.url
        self.slots = register.slots
        self.kv_tokens = register.kv_tokens
        self.credits = register.slots + look_ahead
        self.rate = Rate(register.tokens_per_s)
        self.measured = False
        self.owed = 0
        self.host = register.host  # the encoder whose card it shares, if it is a thief

    def _learn_rate(self, tokens: float, seconds: float) -> float:
        """Takes in one sample; returns by how much the rate has changed."""
        change = self.rate.learn(tokens, seconds)
        if change:
            self.measured = True
        return change


class EncodeJob(Struct, eq=False):
    """One item that has to be encoded, on behalf of every request that waits for it.

    `encoder` is None while no encoder is registered. `carrier` is the request whose gateway posts the item: set exactly
    while the job runs. `reports_owed` are postings to engines that were lost since, as (carrier, worker): each
    carrier's gateway still owes one report, which says nothing about the posting that replaced it.
    """

    uuid: ItemUuid
    tokens: int
    arrival: int
    tag: float  # of the request that wanted it first (`scheduler.fairness`)
    waiters: dict[RequestId, None]  # in the order in which they joined
    encoder: "EncodeWorker | None" = None
    carrier: RequestId | None = None
    ahead: int = 0  # tokens that its engine already held when this job was handed to it
    failed_on: frozenset[WorkerId] = frozenset()
    reports_owed: frozenset[tuple[RequestId, WorkerId]] = frozenset()


class EncodeWorker(Worker):
    """An encoder: jobs handed to its engine, and jobs withheld for it in order of their tags.

    Its store must keep what requests wait with until a decoder has room for them (`ready_bytes`). When that fills
    `STORE_SHARE` of the store, no further encode begins: an embedding that nobody fetches in time loses its lease, and
    requests would lose their embeddings as fast as they get them.
    """

    def __init__(self, register: Register, arrival: int, look_ahead: int) -> None:
        super().__init__(register, arrival, look_ahead)
        self.running: dict[ItemUuid, EncodeJob] = {}
        self.running_tokens = 0
        self.waiting: PriorityQueue[EncodeJob] = PriorityQueue()
        self.ready_bytes = 0
        self.encode_time = MeanTime()
        self._limit = STORE_SHARE * register.store_bytes if register.store_bytes else math.inf

    @property
    def may_start(self) -> bool:
        """Is there a credit, room for what comes of it, and little at hand behind what its engine is encoding?"""
        if len(self.running) >= self.credits or self.ready_bytes >= self._limit:
            return False
        at_hand = self.running_tokens - sum(job.tokens for job in islice(self.running.values(), self.slots))
        return at_hand < HAND_OVER_S * self.rate.tokens_per_s

    def append(self, job: EncodeJob) -> None:
        """Withholds `job`."""
        job.encoder = self
        self.waiting.put(job, job.tag)
        self.owed += job.tokens

    def start(self) -> list[tuple[EncodeJob, RequestId]]:
        """Moves jobs from the head of its queue into the engine while it may; these, and who carries each."""
        started = []
        while (job := self.waiting.first) is not None and self.may_start:
            self.waiting.discard(job)
            job.carrier = carrier = next(iter(job.waiters))
            job.ahead = self.running_tokens
            self.running[job.uuid] = job
            self.running_tokens += job.tokens
            started.append((job, carrier))
        return started

    def remove(self, job: EncodeJob) -> None:
        """Forgets `job`, running or withheld."""
        if self.running.pop(job.uuid, None):
            self.running_tokens -= job.tokens
        else:
            self.waiting.discard(job)
        self.owed -= job.tokens
        job.encoder = job.carrier = None

    def learn(self, job: EncodeJob, tokens: int, seconds: float) -> float:
        """Measures the rate by a finished job of `tokens` real tokens, `seconds` from its post to its answer.

        Returns by how much it has changed.

        An engine that holds several encodes works them off in turn, so these seconds contain the work that lay ahead
        of the job as well as its own: both count as done, and of the time its own part is what one encode takes. Work
        posted later is left out, which errs on the slow side.
        """
        done = job.ahead + tokens
        if done > 0:
            self.encode_time.learn(seconds * tokens / done)
        return self._learn_rate(done, seconds)

    def check_integrity(self) -> None:
        """Raises AssertionError where its books do not add up."""
        assert len(self.running) <= self.credits, f"{self.id} holds more encodes than its credits"
        self.waiting.check_integrity()
        waiting = self.waiting.unordered()
        assert not any(job.uuid in self.running for job in waiting), f"{self.id} both runs and withholds an encode"
        assert self.running_tokens == sum(job.tokens for job in self.running.values()), f"{self.id}: running tokens"
        assert self.owed == self.running_tokens + sum(job.tokens for job in waiting), f"{self.id}: owed tokens"
        for job in (*self.running.values(), *waiting):
            assert job.encoder is self, f"{self.id} holds an encode that belongs elsewhere"
            assert (job.carrier is not None) == (job.uuid in self.running), f"{self.id}: a carrier without an encode"


class Reservation(Struct, eq=False):
    """What one request holds of a decode worker, and how many requests ran there (itself included) when it came.

    `prompt_tokens`: of a prompt with images, until its first token has been reported, if it is. `prefill_tokens`: the
    same of one whose first token will be, else 0. `prefill_ahead`: those that were in the prefill when it came.
    `first_token_s`: from its post, where that is known, else 0. `since`: when it came. `stood_still_s`: for how long
    its engine had been held until then.
    """

    kv_tokens: int
    output_tokens: int
    prompt_tokens: int
    prefill_tokens: int
    prefill_ahead: int
    batch: int
    since: float
    stood_still_s: float
    first_token_s: float = 0.0


class DecodeWorker(Worker):
    """A worker that generates (DECODER, TEXT or WHOLE): the requests handed to its engine and what they reserve."""

    def __init__(self, register: Register, arrival: int, look_ahead: int) -> None:
        super().__init__(register, arrival, min(look_ahead, register.slots // LOOK_AHEAD_PER_SLOTS))
        self.crew = Crew()
        self.registered = False
        self.running: dict[RequestId, Reservation] = {}
        self.room = self.kv_tokens  # tokens of its KV cache that nobody has reserved
        self.prompts = 0  # tokens of the prompts with images that are not known to be through the prefill
        self.prefilling = 0  # of these, those that will be known
        self.stood_still_s = 0.0  # in all the pauses of its engine that are over
        self._prefill_limit = PREFILLS_AT_ONCE * register.prefill_tokens or math.inf

    @property
    def has_credit(self) -> bool:
        """May it be handed another request, if there is room for it?"""
        return len(self.running) < self.credits

    @property
    def next_itl_s(self) -> float:
        """Seconds a token of each of its streams would take if it took one more request."""
        return (len(self.running) + 1) / self.rate.tokens_per_s

    def admits(self, kv_tokens: int) -> bool:
        """Is there a credit and room for `kv_tokens`? A request larger than the whole cache fits when it is empty."""
        return len(self.running) < self.credits and (kv_tokens <= self.room or self.room == self.kv_tokens)

    def takes(self, kv_tokens: int) -> int:
        """How many requests of `kv_tokens` it admits."""
        if not self.admits(kv_tokens):
            return 0
        return max(1, min(self.credits - len(self.running), self.room // max(kv_tokens, 1)))

    @property
    def prefill_room(self) -> float:
        """The most tokens that a prompt may have to come besides those in the prefill."""
        return self._prefill_limit - self.prefilling if self.prefilling else math.inf

    def takes_prefill(self, tokens: int) -> bool:
        """May a prompt of so many tokens that count come besides those in the prefill? The first of any size may."""
        return not tokens or tokens <= self.prefill_room

    def reserve(
        self,
        request: RequestId,
        kv_tokens: int,
        output_tokens: int,
        now: float,
        prompt_tokens: int = 0,
        prefill_tokens: int = 0,
    ) -> None:
        """Books `request`, which is handed out now; `admits` must have said yes."""
        running, crew = self.running, self.crew
        if kv_tokens > self.kv_tokens:
            kv_tokens = self.kv_tokens
        ahead, batch, stood_still_s = self.prefilling, len(running) + 1, self.stood_still_s
        running[request] = Reservation(
            kv_tokens, output_tokens, prompt_tokens, prefill_tokens, ahead, batch, now, stood_still_s
        )
        self.room -= kv_tokens
        self.owed += output_tokens
        crew.since[request] = now
        crew.owed += output_tokens
        if prompt_tokens:
            self._prefill(prompt_tokens, prefill_tokens)
        crew.changed[self] = None

    def release(self, request: RequestId) -> None:
        """Gives back what `request` holds."""
        reservation, crew = self.running.pop(request), self.crew
        self.room += reservation.kv_tokens
        self.owed -= reservation.output_tokens
        crew.since.pop(request, None)  # the crew of a lost worker has forgotten it
        crew.owed -= reservation.output_tokens
        if reservation.prompt_tokens:
            self._prefill(-reservation.prompt_tokens, -reservation.prefill_tokens)
        crew.changed[self] = None

    def begun(self, request: RequestId, seconds: float) -> None:
        """The first token of `request` has come, so long after its post.

        Prompts are computed in turn, so these seconds contain what was ahead of it in the prefill.
        """
        reservation = self.running[request]
        if reservation.prefill_tokens:
            self.crew.learn_prompts(reservation.prefill_ahead + reservation.prefill_tokens, seconds)
            self._prefill(-reservation.prompt_tokens, -reservation.prefill_tokens)
            reservation.prompt_tokens = reservation.prefill_tokens = 0
            reservation.first_token_s = max(seconds, 0.0)
            self.crew.changed[self] = None

    def _prefill(self, prompt_tokens: int, prefill_tokens: int) -> None:
        """So many tokens of prompts more, or fewer, are to be computed."""
        self.prompts += prompt_tokens
        self.prefilling += prefill_tokens
        self.crew.prompts += prompt_tokens

    def learn(self, request: RequestId, output_tokens: int, seconds: float) -> None:
        """Measures the rate by a running request that has just finished, `seconds` from its post to its answer.

        The engine served its whole batch meanwhile, so one stream's rate times the mean of the batch that it met and
        the batch that it leaves is what the engine generated. Its first token is left out, with the time that it took,
        if that has been reported: an image may have been encoded in it. So is the time in which the engine was held.
        """
        reservation = self.running[request]
        if output_tokens > 0:  # else it was refused, and at once
            self.crew.held.learn(seconds)
        batch = (reservation.batch + len(self.running)) / 2
        seconds -= self.stood_still_s - reservation.stood_still_s
        if reservation.first_token_s:
            output_tokens, seconds = output_tokens - 1, seconds - reservation.first_token_s
        self.crew.tokens_per_s += self._learn_rate(output_tokens * batch, seconds)

    def count_as(self, tokens_per_s: float) -> None:
        """It is taken to be so fast, until its next answer."""
        self.crew.tokens_per_s += tokens_per_s - self.rate.tokens_per_s
        self.rate.tokens_per_s = tokens_per_s
        self.measured = False

    def ran_s(self, request: RequestId, until: float) -> float:
        """For how long its engine has worked at a request; `until` is now, or when it was held if it is."""
        reservation = self.running[request]
        return max(0.0, until - reservation.since - (self.stood_still_s - reservation.stood_still_s))

    def check_integrity(self) -> None:
        """Raises AssertionError where its books do not add up."""
        held = self.running.values()
        assert len(held) <= self.credits, f"{self.id} holds more requests than its credits"
        assert 0 <= self.room == self.kv_tokens - sum(one.kv_tokens for one in held), f"{self.id}: KV tokens"
        assert self.owed == sum(one.output_tokens for one in held), f"{self.id}: output tokens"
        assert self.prompts == sum(one.prompt_tokens for one in held), f"{self.id}: tokens of prompts"
        assert self.prefilling == sum(one.prefill_tokens for one in held), f"{self.id}: tokens in the prefill"
