"""The decode workers of one role, and which of them could take a request now.

Owns their order, not the workers. Imports only `chiasm.nouns`, the standard library and its neighbours.
"""

from collections.abc import Callable

from chiasm.nouns import WorkerId
from scheduler.finish_index import Candidate, FinishIndex, candidate
from scheduler.ordering import PriorityQueue
from scheduler.requests import LiveRequest
from scheduler.workers import DecodeWorker

FEW = 8
"""So many workers with a credit are looked at one by one; only if there are more they are kept in order."""


class Pool:
    """The decode workers of one role.

    Under load hardly any has a credit but the one that has just finished something, and to keep that in order would
    cost more than to look at it.
    """

    def __init__(self) -> None:
        self.members: dict[WorkerId, DecodeWorker] = {}
        self.with_credit: dict[DecodeWorker, None] = {}
        self._in_order = False  # are those with a credit kept by finish and by room?
        self._by_finish: FinishIndex[DecodeWorker] = FinishIndex()
        self._by_room: PriorityQueue[DecodeWorker] = PriorityQueue()

    def add(self, worker: DecodeWorker) -> None:
        """A worker has registered; `update` must follow."""
        self.members[worker.id] = worker

    def remove(self, worker: DecodeWorker) -> None:
        """A worker has left."""
        del self.members[worker.id]
        self.with_credit.pop(worker, None)
        self._by_finish.remove(worker)
        self._by_room.discard(worker)

    def update(self, worker: DecodeWorker) -> None:
        """What a worker holds or its rate has changed."""
        if len(worker.running) < worker.credits:
            self.with_credit[worker] = None
        else:
            self.with_credit.pop(worker, None)
        if self._in_order:
            self._put_in_order(worker)
            self._in_order = bool(self.with_credit)
        elif len(self.with_credit) > FEW:
            self._in_order = True
            for each in self.with_credit:
                self._put_in_order(each)

    def candidates(
        self, request: LiveRequest, allowed: Callable[[DecodeWorker], bool] | None, prefill_tokens: int
    ) -> list[Candidate[DecodeWorker]]:
        """Workers for a request, the best among them: with a credit, room, and a place in the prefill for it.

        Where not all are allowed, only those.

        Where caches are so full that none of those with the earliest finish has room, the roomiest of all.
        """
        kv_tokens, tokens = request.kv_tokens, request.output_tokens

        def fits(worker: DecodeWorker) -> bool:
            fitting = worker.admits(kv_tokens) and worker.takes_prefill(prefill_tokens)
            return fitting and (allowed is None or allowed(worker))

        if not self._in_order:
            return [candidate(worker, tokens) for worker in self.with_credit if fits(worker)]
        roomiest = self._by_room.first()
        if roomiest is None or roomiest.room < kv_tokens <= roomiest.kv_tokens:
            return []
        found = self._by_finish.candidates(tokens, fits)
        if not found and fits(roomiest):
            found.append(candidate(roomiest, tokens))
        return found

    def _put_in_order(self, worker: DecodeWorker) -> None:
        has_credit = worker in self.with_credit
        self._by_finish.update(worker, has_credit)
        if has_credit:
            self._by_room.put(worker, -worker.room)
        else:
            self._by_room.discard(worker)
