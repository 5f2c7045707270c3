"""Which worker will be done first, found without looking at each.

Owns orders of workers, not the workers. Imports only the standard library and `scheduler.workers`.
"""

import math
from collections.abc import Callable
from heapq import heapify, heappop, heappush
from typing import Generic, TypeVar

from scheduler.workers import Worker

RATE_STEP = 1.05
"""Workers whose rates differ by less count as equally fast: no measured rate is any closer to the truth."""

LOG_STEP = math.log(RATE_STEP)

LOOKED_AT = 8
"""Workers of one speed that are looked at for one that fits, before only the roomiest is."""

W = TypeVar("W", bound=Worker)


class Ranking(Generic[W]):
    """Workers by a whole number, smallest first, equal ones by registration; each O(log n), amortised.

    A worker that moves leaves its old place in the heap behind; see `ordering.PriorityQueue`.
    """

    def __init__(self) -> None:
        self._heap: list[tuple[int, int, W]] = []
        self._keys: dict[int, int] = {}  # by `Worker.order`

    def __len__(self) -> int:
        return len(self._keys)

    def put(self, worker: W, key: int) -> None:
        """Enters a worker, or moves it."""
        order = worker.order
        if self._keys.get(order) == key:
            return
        self._keys[order] = key
        heappush(self._heap, (key, order, worker))
        if len(self._heap) > 2 * len(self._keys) + 8:
            places = {order: place for place in self._heap if self._keys.get(order := place[1]) == place[0]}
            self._heap = list(places.values())
            heapify(self._heap)

    def discard(self, worker: W) -> None:
        """Takes a worker out, if it is in."""
        self._keys.pop(worker.order, None)

    def first(self, fits: Callable[[W], bool], most: int) -> tuple[int, W] | None:
        """The first that fits, among the first `most`, and its number."""
        heap, keys = self._heap, self._keys
        aside: list[tuple[int, int, W]] = []
        found = None
        while heap:
            key, order, worker = heap[0]
            if keys.get(order) != key:
                heappop(heap)
            elif fits(worker):
                found = key, worker
                break
            elif len(aside) == most:
                break
            else:
                aside.append(heappop(heap))
        for place in aside:
            heappush(heap, place)
        return found


class FinishIndex(Generic[W]):
    """Workers of one pool, by what they owe and how fast they are: least predicted finish.

    The finish of new work is (what the worker owes + the work) / its rate. Workers of one speed stay in the same order
    whatever the work is, so there is one ranking a speed: a search costs O(speeds + log workers).
    """

    def __init__(self) -> None:
        self._speeds: dict[int, Ranking[W]] = {}  # by the logarithm of the rate, to RATE_STEP
        self._speed_of: dict[int, int] = {}  # by `Worker.order`
        self._rates: dict[int, int] = {}  # by `Worker.order`, in thousandths, so that their sum never drifts
        self._total = 0
        self.considered: list[tuple[W, float]] = []  # by the latest search: the best of each speed, and its finish

    def update(self, worker: W, eligible: bool = True) -> None:
        """A worker has joined, or what it owes, its rate, or whether it may be chosen has changed."""
        order, rate = worker.order, round(1000 * worker.rate.tokens_per_s)
        if self._rates.get(order) != rate:
            self._total += rate - self._rates.get(order, 0)
            self._rates[order] = rate
            speed = round(math.log(worker.rate.tokens_per_s) / LOG_STEP)
            before = self._speed_of.get(order)
            if speed != before:
                if before is not None:
                    self._discard(worker, before)
                self._speed_of[order] = speed
        speed = self._speed_of[order]
        if not eligible:
            self._discard(worker, speed)
        elif speed in self._speeds:
            self._speeds[speed].put(worker, worker.owed)
        else:
            self._speeds[speed] = Ranking()
            self._speeds[speed].put(worker, worker.owed)

    def remove(self, worker: W) -> None:
        """A worker has left."""
        self._discard(worker, self._speed_of.pop(worker.order))
        self._total -= self._rates.pop(worker.order)

    def best(self, tokens: int, fits: Callable[[W], bool]) -> W | None:
        """The eligible worker that fits and would finish `tokens` more first; ties go to the one registered first.

        None if none fits among the first `LOOKED_AT` of each speed.
        """
        best: W | None = None
        earliest = math.inf
        self.considered = []
        for ranking in self._speeds.values():
            found = ranking.first(fits, LOOKED_AT)
            if found is None:
                continue
            owed, worker = found
            finish = (owed + tokens) / worker.rate.tokens_per_s
            self.considered.append((worker, finish))
            if finish < earliest or (finish == earliest and best is not None and worker.order < best.order):
                best, earliest = worker, finish
        return best

    @property
    def tokens_per_s(self) -> float:
        """What all workers do together."""
        return self._total / 1000

    def _discard(self, worker: W, speed: int) -> None:
        ranking = self._speeds.get(speed)
        if ranking is not None:
            ranking.discard(worker)
            if not len(ranking):
                del self._speeds[speed]
