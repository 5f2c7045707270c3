"""One worker: what it may hold, what it holds, and how fast it has proved to be.

Owns credits, reservations and measured rates; knows nothing of requests but their ids. A worker object stands for one
*engine*: a worker that registers again gets a new object, so what was reserved on the old one is void with it.
Imports only `chiasm.{nouns,messages}`, the standard library and `scheduler.ordering`.
"""

import math
from dataclasses import dataclass, field

from chiasm.messages import Register
from chiasm.nouns import ItemUuid, RequestId, WorkerId
from scheduler.ordering import PriorityQueue

EWMA_WEIGHT = 0.2
"""How much one sample moves a measured rate."""

STORE_SHARE = 0.8
"""Of a store, at most, for embeddings that wait for a decoder; the rest is for what is being encoded or fetched."""

SAMPLE_BOUND = 4.0
"""A sample counts as at most this factor away from the present rate: an engine may answer out of its own cache."""


class Rate:
    """Tokens per second as an exponentially weighted moving average; positive and finite from its seed on."""

    def __init__(self, seed: float) -> None:
        self.tokens_per_s = seed

    def learn(self, tokens: float, seconds: float) -> None:
        """Takes in one sample; a sample without work or without time says nothing and is left out."""
        if not (tokens > 0 and 0 < seconds < math.inf):
            return
        sample = tokens / seconds
        sample = min(max(sample, self.tokens_per_s / SAMPLE_BOUND), self.tokens_per_s * SAMPLE_BOUND)
        self.tokens_per_s += EWMA_WEIGHT * (sample - self.tokens_per_s)


class Worker:
    """What every registered worker has.

    `credits` bounds what may be handed to its engine at once; `owed` are the tokens that it has been given and has not
    finished; `order` is its place in the order of all registrations.
    """

    def __init__(self, register: Register, order: int, look_ahead: int) -> None:
        self.id = register.worker
        self.order = order
        self.role = register.role
        self.node = register.node
        self.url = register.url
        self.slots = register.slots
        self.kv_tokens = register.kv_tokens
        self.credits = register.slots + look_ahead
        self.rate = Rate(register.tokens_per_s)
        self.owed = 0
        self.host = register.host  # the encoder whose card it shares, if it is a thief


@dataclass(slots=True, eq=False)
class EncodeJob:
    """One item that has to be encoded, on behalf of every request that waits for it.

    `encoder` is None while no encoder is registered. `carrier` is the request whose gateway posts the item: set exactly
    while the job runs. `owed` are postings to engines that were lost since, as (carrier, worker): each carrier's
    gateway still owes one report, which says nothing about the posting that replaced it.
    """

    uuid: ItemUuid
    tokens: int
    arrival: int
    tag: float  # of the request that wanted it first (`scheduler.fairness`)
    waiters: dict[RequestId, None] = field(default_factory=dict)  # in the order in which they joined
    encoder: "EncodeWorker | None" = None
    carrier: RequestId | None = None
    ahead: int = 0  # tokens that its engine already held when this job was handed to it
    failed_on: set[WorkerId] = field(default_factory=set)
    owed: set[tuple[RequestId, WorkerId]] = field(default_factory=set)


class EncodeWorker(Worker):
    """An encoder: jobs handed to its engine, and jobs withheld for it in order of their tags.

    Its store must keep what requests wait with until a decoder has room for them (`ready_bytes`). When that fills
    `STORE_SHARE` of the store, no further encode begins: an embedding that nobody fetches in time loses its lease, and
    requests would lose their embeddings as fast as they get them.
    """

    def __init__(self, register: Register, order: int, look_ahead: int) -> None:
        super().__init__(register, order, look_ahead)
        self.running: dict[ItemUuid, EncodeJob] = {}
        self.running_tokens = 0
        self.waiting: PriorityQueue[EncodeJob] = PriorityQueue()
        self.ready_bytes = 0
        self.mean_encode_s = 0.0
        self._limit = STORE_SHARE * register.store_bytes if register.store_bytes else math.inf

    @property
    def may_start(self) -> bool:
        """Is there a credit, and room for what comes of it?"""
        return len(self.running) < self.credits and self.ready_bytes < self._limit

    def append(self, job: EncodeJob) -> None:
        """Withholds `job`."""
        job.encoder = self
        self.waiting.push(job, job.tag)
        self.owed += job.tokens

    def start_next(self) -> EncodeJob | None:
        """Moves the job at the head of its queue into the engine, if there is one and a credit for it."""
        if not self.may_start or (job := self.waiting.first()) is None:
            return None
        self.waiting.remove(job)
        job.carrier = next(iter(job.waiters))
        job.ahead = self.running_tokens
        self.running[job.uuid] = job
        self.running_tokens += job.tokens
        return job

    def remove(self, job: EncodeJob) -> None:
        """Forgets `job`, running or withheld."""
        if self.running.pop(job.uuid, None):
            self.running_tokens -= job.tokens
        else:
            self.waiting.remove(job)
        self.owed -= job.tokens
        job.encoder = job.carrier = None

    def learn(self, job: EncodeJob, tokens: int, seconds: float) -> None:
        """Measures the rate by a finished job of `tokens` real tokens, `seconds` from its post to its answer.

        An engine that holds several encodes works them off in turn, so these seconds contain the work that lay ahead
        of the job as well as its own: both count as done. Work posted later is left out, which errs on the slow side.
        """
        self.rate.learn(job.ahead + tokens, seconds)
        if 0 < seconds < math.inf:
            self.mean_encode_s += EWMA_WEIGHT * (seconds - self.mean_encode_s)

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


@dataclass(slots=True, frozen=True)
class Reservation:
    """What one request holds of a decode worker, and how many requests ran there (itself included) when it came."""

    kv_tokens: int
    output_tokens: int
    batch: int


class DecodeWorker(Worker):
    """A worker that generates (DECODER, TEXT or WHOLE): the requests handed to its engine and what they reserve."""

    def __init__(self, register: Register, order: int, look_ahead: int) -> None:
        super().__init__(register, order, look_ahead)
        self.running: dict[RequestId, Reservation] = {}
        self.room = self.kv_tokens  # tokens of its KV cache that nobody has reserved

    @property
    def has_credit(self) -> bool:
        """May it be handed another request, if there is room for it?"""
        return len(self.running) < self.credits

    def admits(self, kv_tokens: int) -> bool:
        """Is there a credit and room for `kv_tokens`? A request larger than the whole cache fits when it is empty."""
        return len(self.running) < self.credits and (kv_tokens <= self.room or self.room == self.kv_tokens)

    def reserve(self, request: RequestId, kv_tokens: int, output_tokens: int) -> None:
        """Books `request`; `admits` must have said yes."""
        kv_tokens = min(kv_tokens, self.kv_tokens)
        self.running[request] = Reservation(kv_tokens, output_tokens, len(self.running) + 1)
        self.room -= kv_tokens
        self.owed += output_tokens

    def release(self, request: RequestId) -> None:
        """Gives back what `request` holds."""
        reservation = self.running.pop(request)
        self.room += reservation.kv_tokens
        self.owed -= reservation.output_tokens

    def learn(self, request: RequestId, output_tokens: int, seconds: float) -> None:
        """Measures the rate by a running request that has just finished, `seconds` from its post to its answer.

        The engine served its whole batch meanwhile, so one stream's rate times the mean of the batch that it met and
        the batch that it leaves is what the engine generated.
        """
        batch = (self.running[request].batch + len(self.running)) / 2
        self.rate.learn(output_tokens * batch, seconds)

    def check_integrity(self) -> None:
        """Raises AssertionError where its books do not add up."""
        held = self.running.values()
        assert len(held) <= self.credits, f"{self.id} holds more requests than its credits"
        assert 0 <= self.room == self.kv_tokens - sum(one.kv_tokens for one in held), f"{self.id}: KV tokens"
        assert self.owed == sum(one.output_tokens for one in held), f"{self.id}: output tokens"
