"""What decode workers hold and do together.

Owns sums, not workers. Imports only `chiasm.nouns`, the standard library and `scheduler.rate`.
"""

import math
from collections import deque
from collections.abc import Sequence
from heapq import merge
from itertools import islice
from typing import TYPE_CHECKING

from chiasm.nouns import RequestId, Role
from scheduler.rate import MeanTime, Rate

if TYPE_CHECKING:
    from scheduler.workers import DecodeWorker


class Crew:
    """Registered decode workers: how many, and what they hold and do together.

    `since` has when each request that they hold was handed out, the earliest first. `changed` are workers that are new,
    or whose books have changed, until whoever keeps them in order takes note. `held` is for how long a request that was
    answered held its credit. Crews may share both.
    """

    def __init__(self, changed: "dict[DecodeWorker, None] | None" = None, held: MeanTime | None = None) -> None:
        self.workers = 0
        self.since: dict[RequestId, float] = {}
        self.owed = 0  # tokens that these may still generate
        self.prompts = 0  # tokens, as `DecodeWorker.prompts`
        self.tokens_per_s = 0.0
        self.prompt_rate: Rate | None = None  # of one worker, from the post of a prompt with images to the first token
        self.changed: dict[DecodeWorker, None] = {} if changed is None else changed
        self.held = MeanTime() if held is None else held

    @property
    def running(self) -> int:
        """Requests that they hold."""
        return len(self.since)

    def add(self, worker: "DecodeWorker") -> None:
        """A worker has registered."""
        worker.crew, worker.registered = self, True
        self.workers += 1
        self.tokens_per_s += worker.rate.tokens_per_s
        self.changed[worker] = None

    def remove(self, worker: "DecodeWorker") -> None:
        """A worker is lost, and its books are void."""
        worker.crew, worker.registered = Crew(), False
        self.workers -= 1
        for request in worker.running:
            del self.since[request]
        self.owed -= worker.owed
        self.prompts -= worker.prompts
        self.tokens_per_s -= worker.rate.tokens_per_s
        self.changed.pop(worker, None)

    def learn_prompts(self, tokens: int, seconds: float) -> None:
        """Some worker took so long to the first token, for so many tokens of prompts."""
        if self.prompt_rate is not None:
            self.prompt_rate.learn(tokens, seconds)
        elif tokens > 0 and 0 < seconds < math.inf:
            self.prompt_rate = Rate(tokens / seconds)

    def check_integrity(self, workers: "Sequence[DecodeWorker]") -> None:
        """Raises AssertionError where the sums are not those of these workers."""
        assert self.workers == len(workers), "decode workers are miscounted"
        held = [request for worker in workers for request in worker.running]
        assert len(held) == len(self.since) == len(self.since.keys() & set(held)), "requests are miscounted"
        assert list(self.since.values()) == sorted(self.since.values()), "requests are out of order"
        assert self.owed == sum(worker.owed for worker in workers), "output tokens are miscounted"
        assert self.prompts == sum(worker.prompts for worker in workers), "tokens of prompts are miscounted"
        tokens_per_s = sum(worker.rate.tokens_per_s for worker in workers)
        assert math.isclose(self.tokens_per_s, tokens_per_s, abs_tol=0.1), "rates are miscounted"


class DecodeCrews:
    """All decode workers but the thieves: a crew for each role, which share `changed` and `held`."""

    def __init__(self) -> None:
        self.changed: dict[DecodeWorker, None] = {}
        self.held = MeanTime()
        self.decoders, self.text_only, self.wholes = (Crew(self.changed, self.held) for _ in range(3))
        self.of = {Role.DECODER: self.decoders, Role.TEXT: self.text_only, Role.WHOLE: self.wholes}

    @property
    def workers(self) -> int:
        """How many."""
        return self.decoders.workers + self.text_only.workers + self.wholes.workers

    @property
    def running(self) -> int:
        """Requests that they hold."""
        return self.decoders.running + self.text_only.running + self.wholes.running

    def free_in(self, count: int, held_s: float, now: float) -> list[float]:
        """Seconds until each of so many credits is free, or all of them if they are fewer: the soonest first.

        Each is held for `held_s`. One that is overdue is taken to be so for as long again: the longer it has been, the
        less does the mean of others say of it.
        """
        due: list[float] = []
        overdue: deque[float] = deque(maxlen=count)
        for since in merge(*(crew.since.values() for crew in (self.decoders, self.text_only, self.wholes))):
            left = since + held_s - now
            if left < 0:
                overdue.append(-left)
            else:
                due.append(left)
                if len(due) == count:
                    break
        return list(islice(merge(due, reversed(overdue)), count))

    @property
    def owed(self) -> int:
        """Tokens that these may still generate."""
        return self.decoders.owed + self.text_only.owed + self.wholes.owed

    @property
    def tokens_per_s(self) -> float:
        """What they generate together."""
        return self.decoders.tokens_per_s + self.text_only.tokens_per_s + self.wholes.tokens_per_s
