"""The decode workers of one role, and which of them could take a request now.

Owns their order, not the workers. Imports only `chiasm.nouns`, the standard library and its neighbours.
"""

from collections.abc import Callable

from chiasm.nouns import WorkerId
from scheduler.finish_index import LOOKED_AT, Candidate, FinishIndex, candidate
from scheduler.ordering import PriorityQueue
from scheduler.requests import LiveRequest
from scheduler.workers import DecodeWorker

Allowed = Callable[[DecodeWorker], bool]

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
        self._largest = 0  # KV cache of a member, in tokens
        self._in_order = False  # are those with a credit kept by finish, by room, and by room in the prefill?
        self._by_finish: FinishIndex[DecodeWorker] = FinishIndex()
        self._by_room: PriorityQueue[DecodeWorker] = PriorityQueue()
        self._by_prefill: PriorityQueue[DecodeWorker] = PriorityQueue()

    def add(self, worker: DecodeWorker) -> None:
        """A worker has registered; `update` must follow."""
        self.members[worker.id] = worker
        self._largest = max(self._largest, worker.kv_tokens)

    def remove(self, worker: DecodeWorker) -> None:
        """A worker has left."""
        del self.members[worker.id]
        self.with_credit.pop(worker, None)
        self._by_finish.remove(worker)
        self._by_room.discard(worker)
        self._by_prefill.discard(worker)
        self._largest = max((each.kv_tokens for each in self.members.values()), default=0)

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
        self, request: LiveRequest, allowed: Allowed | None, prefill_tokens: int
    ) -> list[Candidate[DecodeWorker]]:
        """Workers for a request: with a credit, room, and a place in the prefill for it. Empty only if there is none.

        Where not all are allowed, only those. Few are looked at: those with the earliest finish; if it suits none of
        them, those with the most room; and all only where this and that worker has what it needs and none has both.
        """
        kv_tokens, tokens = request.kv_tokens, request.output_tokens
        if not self._in_order:
            return [
                candidate(worker, tokens)
                for worker in self.with_credit
                if self._takes(worker, kv_tokens, prefill_tokens, allowed)
            ]
        roomiest, most_prefill = self._by_room.first, self._by_prefill.first
        if roomiest is None or most_prefill is None or not most_prefill.takes_prefill(prefill_tokens):
            return []
        if allowed is None and roomiest.room < kv_tokens <= self._largest:
            return []

        def fits(worker: DecodeWorker) -> bool:
            return self._takes(worker, kv_tokens, prefill_tokens, allowed)

        found = self._by_finish.candidates(tokens, fits)
        if not found:
            most = self._by_prefill.first_few(LOOKED_AT) if prefill_tokens else ()
            found = [candidate(worker, tokens) for worker in dict.fromkeys((roomiest, *most)) if fits(worker)]
        return found or [candidate(worker, tokens) for worker in self.with_credit if fits(worker)]

    def _takes(self, worker: DecodeWorker, kv_tokens: int, prefill_tokens: int, allowed: Allowed | None) -> bool:
        return (
            worker.admits(kv_tokens)
            and (not prefill_tokens or worker.takes_prefill(prefill_tokens))
            and (allowed is None or allowed(worker))
            and (kv_tokens <= worker.kv_tokens or not self._has_larger(kv_tokens, allowed))
        )

    def _has_larger(self, kv_tokens: int, allowed: Allowed | None) -> bool:
        """Is there an allowed worker with a cache that is large enough? It is worth waiting for."""
        if allowed is None:
            return kv_tokens <= self._largest
        return any(worker.kv_tokens >= kv_tokens and allowed(worker) for worker in self.members.values())

    def _put_in_order(self, worker: DecodeWorker) -> None:
        has_credit = worker in self.with_credit
        self._by_finish.update(worker, has_credit)
        if has_credit:
            self._by_room.put(worker, -worker.room)
            self._by_prefill.put(worker, -worker.prefill_room)
        else:
            self._by_room.discard(worker)
            self._by_prefill.discard(worker)

    def check_integrity(self, request: LiveRequest) -> None:
        """Raises AssertionError where the search finds nobody for a request though there is somebody."""
        self._by_finish.check_integrity()
        for prefill_tokens in (0, request.prefill_tokens):
            found = self.candidates(request, None, prefill_tokens)
            able = [one for one in self.with_credit if self._takes(one, request.kv_tokens, prefill_tokens, None)]
            assert bool(found) == bool(able), f"{request.id}: who could take it is not found"
