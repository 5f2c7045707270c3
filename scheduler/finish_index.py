"""Which worker will be done first, found without looking at each.

Owns orders of workers, not the workers. Imports only the standard library and `scheduler.{ordering,workers}`.
"""

import math
from collections.abc import Callable
from typing import Generic, TypeVar

from scheduler.ordering import Places, PriorityQueue
from scheduler.workers import Worker

RATE_STEP = 1.05
"""Workers whose rates differ by less count as equally fast: no measured rate is any closer to the truth."""

LOG_STEP = math.log(RATE_STEP)

LOOKED_AT = 8
"""Members of one order that are looked at for one that fits."""

REMEMBERED = 4
"""Candidates that are remembered for whoever asks for a reason, the best one included."""

W = TypeVar("W", bound=Worker)

Candidate = tuple[float, int, W]
"""When the worker would be done, in seconds, and its `Worker.arrival`: the smallest is the best."""


def candidate(worker: W, tokens: int) -> Candidate[W]:
    """A worker for so many tokens more than it owes."""
    return (worker.owed + tokens) / worker.rate.tokens_per_s, worker.arrival, worker


class FinishIndex(Generic[W]):
    """Workers of one pool, by what they owe and how fast they are: least predicted finish.

    The finish of new work is (what the worker owes + the work) / its rate. Workers of one speed stay in the same order
    whatever the work is, so there is one queue a speed, and only the first of each is looked at: a search costs
    O(speeds), and a change O(log workers).
    """

    def __init__(self) -> None:
        self._speeds: dict[int, PriorityQueue[W]] = {}  # by the logarithm of the rate, to RATE_STEP
        self._places: Places[W] = {}  # shared by all queues: each worker is in at most one
        self._speed_of: dict[int, int] = {}  # by `Worker.arrival`
        self.considered: list[Candidate[W]] = []  # by the latest `best`, the best few of them

    def update(self, worker: W, eligible: bool = True) -> None:
        """A worker has joined, or what it owes, its rate, or whether it may be chosen has changed."""
        if not eligible:
            self.remove(worker)
            return
        speed = round(math.log(worker.rate.tokens_per_s) / LOG_STEP)
        queue = self._speeds.get(speed)
        if queue is None:
            queue = self._speeds[speed] = PriorityQueue(self._places)
        queue.put(worker, worker.owed)
        before = self._speed_of.get(worker.arrival)
        if before != speed:
            self._speed_of[worker.arrival] = speed
            if before is not None:
                self._has_left(before, worker)

    def remove(self, worker: W) -> None:
        """A worker has left."""
        if self._places.pop(worker.arrival, None) is not None:
            self._has_left(self._speed_of.pop(worker.arrival), worker)

    def _has_left(self, speed: int, worker: W) -> None:
        queue = self._speeds[speed]
        queue.left(worker)
        if queue.first is None:
            del self._speeds[speed]

    def check_integrity(self) -> None:
        """Raises AssertionError where a worker is in no queue or in two, or a queue's first is another."""
        assert self._speed_of.keys() == self._places.keys(), "a worker has a place and no speed, or the other way round"
        assert sum(len(queue.own()) for queue in self._speeds.values()) == len(self._places), "a worker is astray"
        for queue in self._speeds.values():
            queue.check_first()

    def candidates(self, tokens: int, fits: Callable[[W], bool] | None = None) -> list[Candidate[W]]:
        """Of each speed the eligible worker that fits and would be done with `tokens` more first.

        A speed of which none fits among the first `LOOKED_AT` is left out.
        """
        if fits is not None:
            fitting = [queue.first_that(fits, LOOKED_AT) for queue in self._speeds.values()]
            return [candidate(worker, tokens) for worker in fitting if worker is not None]
        return [  # `candidate`, spelled out: of each speed there is one, and for each item that comes
            ((worker.owed + tokens) / worker.rate.tokens_per_s, worker.arrival, worker)
            for queue in self._speeds.values()
            if (worker := queue.first) is not None
        ]

    def best(self, tokens: int, fits: Callable[[W], bool] | None = None) -> W | None:
        """The first of these candidates; of several the one registered first."""
        self.considered = sorted(self.candidates(tokens, fits))[:REMEMBERED]
        return self.considered[0][2] if self.considered else None
