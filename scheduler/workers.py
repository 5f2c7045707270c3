"""One worker: what it may hold, what it holds, and how fast it has proved to be.

Owns credits, reservations and measured rates; knows nothing of requests but their ids. A worker object stands for one
*engine*: a worker that registers again gets a new object, so what was reserved on the old one is void with it.
Imports only `chiasm.{nouns,messages}` and the standard library.
"""

import math
from collections import OrderedDict
from dataclasses import dataclass, field

from chiasm.messages import Register
from chiasm.nouns import ItemUuid, RequestId, WorkerId

EWMA_WEIGHT = 0.2
"""How much one sample moves a measured rate."""

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
    """What every registered worker has. `credits` bounds what may be handed to its engine at once."""

    def __init__(self, register: Register, look_ahead: int) -> None:
        self.id = register.worker
        self.role = register.role
        self.node = register.node
        self.url = register.url
        self.slots = register.slots
        self.kv_tokens = register.kv_tokens
        self.credits = register.slots + look_ahead
        self.rate = Rate(register.tokens_per_s)


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
    waiters: dict[RequestId, None] = field(default_factory=dict)  # in the order in which they joined
    encoder: "EncodeWorker | None" = None
    carrier: RequestId | None = None
    ahead: int = 0  # tokens that its engine already held when this job was handed to it
    failed_on: set[WorkerId] = field(default_factory=set)
    owed: set[tuple[RequestId, WorkerId]] = field(default_factory=set)


class EncodeWorker(Worker):
    """An encoder: jobs handed to its engine, jobs withheld for it in FIFO order, and the tokens of both."""

    def __init__(self, register: Register, look_ahead: int) -> None:
        super().__init__(register, look_ahead)
        self.running: dict[ItemUuid, EncodeJob] = {}
        self.waiting: OrderedDict[ItemUuid, EncodeJob] = OrderedDict()
        self.running_tokens = 0
        self.waiting_tokens = 0

    @property
    def backlog(self) -> int:
        """Tokens it has been given and not finished."""
        return self.running_tokens + self.waiting_tokens

    def append(self, job: EncodeJob) -> None:
        """Withholds `job` at the end of its queue."""
        job.encoder = self
        self.waiting[job.uuid] = job
        self.waiting_tokens += job.tokens

    def start_next(self) -> EncodeJob | None:
        """Moves the job at the head of its queue into the engine, if there is one and a credit for it."""
        if not self.waiting or len(self.running) >= self.credits:
            return None
        uuid, job = self.waiting.popitem(last=False)
        self.waiting_tokens -= job.tokens
        job.carrier = next(iter(job.waiters))
        job.ahead = self.running_tokens
        self.running[uuid] = job
        self.running_tokens += job.tokens
        return job

    def put_back(self, job: EncodeJob) -> None:
        """Takes a running job out of the engine and to the head of the queue, where the freed credit finds it."""
        self.remove(job)
        self.append(job)
        self.waiting.move_to_end(job.uuid, last=False)

    def remove(self, job: EncodeJob) -> None:
        """Forgets `job`, running or withheld."""
        if self.running.pop(job.uuid, None):
            self.running_tokens -= job.tokens
        elif self.waiting.pop(job.uuid, None):
            self.waiting_tokens -= job.tokens
        job.encoder = job.carrier = None

    def learn(self, job: EncodeJob, tokens: int, seconds: float) -> None:
        """Measures the rate by a finished job of `tokens` real tokens, `seconds` from its post to its answer.

        An engine that holds several encodes works them off in turn, so these seconds contain the work that lay ahead
        of the job as well as its own: both count as done. Work posted later is left out, which errs on the slow side.
        """
        self.rate.learn(job.ahead + tokens, seconds)

    def check_integrity(self) -> None:
        """Raises AssertionError where its books do not add up."""
        assert len(self.running) <= self.credits, f"{self.id} holds more encodes than its credits"
        assert not self.running.keys() & self.waiting.keys(), f"{self.id} both runs and withholds an encode"
        assert self.running_tokens == sum(job.tokens for job in self.running.values()), f"{self.id}: running tokens"
        assert self.waiting_tokens == sum(job.tokens for job in self.waiting.values()), f"{self.id}: waiting tokens"
        for job in (*self.running.values(), *self.waiting.values()):
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

    def __init__(self, register: Register, look_ahead: int) -> None:
        super().__init__(register, look_ahead)
        self.running: dict[RequestId, Reservation] = {}
        self.reserved_kv = 0
        self.owed_output = 0

    def admits(self, kv_tokens: int) -> bool:
        """Is there a credit and room for `kv_tokens`? A request larger than the whole cache fits when it is empty."""
        room = self.kv_tokens - self.reserved_kv
        return len(self.running) < self.credits and min(kv_tokens, self.kv_tokens) <= room

    def reserve(self, request: RequestId, kv_tokens: int, output_tokens: int) -> None:
        """Books `request`; `admits` must have said yes."""
        kv_tokens = min(kv_tokens, self.kv_tokens)
        self.running[request] = Reservation(kv_tokens, output_tokens, len(self.running) + 1)
        self.reserved_kv += kv_tokens
        self.owed_output += output_tokens

    def release(self, request: RequestId) -> None:
        """Gives back what `request` holds."""
        reservation = self.running.pop(request)
        self.reserved_kv -= reservation.kv_tokens
        self.owed_output -= reservation.output_tokens

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
        assert self.reserved_kv == sum(one.kv_tokens for one in held) <= self.kv_tokens, f"{self.id}: KV tokens"
        assert self.owed_output == sum(one.output_tokens for one in held), f"{self.id}: output tokens"
