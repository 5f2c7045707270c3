"""Which withheld request goes to which decode worker next.

Owns the queue of READY requests. Reads workers, never books on them (`scheduler.core` does). Imports only
`chiasm.nouns`, the standard library and its neighbours.
"""

from collections.abc import Iterable

from chiasm.nouns import Role
from scheduler.ordering import RequestHeap
from scheduler.placement import Placement, elsewhere
from scheduler.requests import LiveRequest
from scheduler.table import WorkerTable
from scheduler.workers import DecodeWorker

TEXT_ROLES = (Role.DECODER, Role.TEXT, Role.WHOLE)


class Admission:
    """READY requests in order of arrival, in two lanes, text and images, because these may use different workers.

    **The head blocks.** A request for which no worker has room keeps every later one off all the workers that it could
    use, even one that would fit: else a stream of small requests would keep a large one waiting for ever. The head
    itself always gets its turn: its worker drains, and an empty worker admits a request of any size.
    """

    def __init__(self, workers: WorkerTable, placement: Placement) -> None:
        self._workers = workers
        self._placement = placement
        self._text = RequestHeap()
        self._images = RequestHeap()
        self._due = False  # has anything changed since the heads were found blocked?

    def __len__(self) -> int:
        return len(self._text) + len(self._images)

    def __contains__(self, request: LiveRequest) -> bool:
        return request in self._lane(request)

    def withhold(self, request: LiveRequest) -> None:
        """Queues a request at the place of its arrival."""
        self._lane(request).push(request, request.arrival)
        if self._lane(request).first() is request:
            self._due = True

    def withdraw(self, request: LiveRequest) -> None:
        """Takes a queued request out."""
        self._lane(request).remove(request)
        self._due = True

    def wake(self) -> None:
        """Tells that workers came, went, or have room again."""
        self._due = True

    def next(self) -> tuple[LiveRequest, DecodeWorker] | None:
        """The request to hand out now and the worker for it; None while every head is blocked."""
        if not self._due:
            return None
        heads = [head for lane in (self._text, self._images) if (head := lane.first()) is not None]
        barred: set[Role] = set()
        for request in sorted(heads, key=lambda head: head.arrival):
            roles = self._roles(request)
            worker = self._choose(request, [role for role in roles if role not in barred])
            if worker is not None:
                return request, worker
            barred.update(roles)
        self._due = False
        return None

    def without_embeddings(self) -> list[LiveRequest]:
        """The queued image requests that were not encoded because a `whole` worker was to take them."""
        return [request for request in self._images.unordered() if not request.has_embeddings]

    def _lane(self, request: LiveRequest) -> RequestHeap:
        return self._images if request.items else self._text

    def _roles(self, request: LiveRequest) -> tuple[Role, ...]:
        if not request.items:
            return TEXT_ROLES
        split = request.has_embeddings and self._workers.decoders[Role.DECODER]
        return (Role.DECODER,) if split else (Role.WHOLE,)

    def _choose(self, request: LiveRequest, roles: Iterable[Role]) -> DecodeWorker | None:
        pool = [worker for role in roles for worker in self._workers.decoders[role].values()]
        kv_tokens = request.kv_tokens()
        # A worker that failed at it stays out as long as another lives, even a full one: refusing comes quickly, and
        # would use up all attempts while a sound worker is busy.
        room = [worker for worker in elsewhere(pool, request.decode_failed_on) if worker.admits(kv_tokens)]
        return self._placement.decoder(request.output_tokens, room) if room else None

    def check_integrity(self) -> None:
        """Raises AssertionError where the lanes are unsound, or a head is withheld though a worker has room for it."""
        self._text.check_integrity()
        self._images.check_integrity()
        self._due = True
        assert self.next() is None, "a request is withheld beside a credit"
