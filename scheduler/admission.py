"""Which withheld request goes to which decode worker next.

Owns the queue of READY requests and the order of the workers. Reads workers, never books on them (`scheduler.lifecycle`
does). Imports only `chiasm.nouns`, the standard library and its neighbours.
"""

from collections import ChainMap
from collections.abc import Callable, Iterable

from chiasm.nouns import Role, WorkerId
from scheduler.finish_index import LOOKED_AT, FinishIndex, Ranking
from scheduler.ordering import PriorityQueue
from scheduler.placement import Placement, anyone, avoiding
from scheduler.requests import LiveRequest
from scheduler.table import WorkerTable
from scheduler.workers import DecodeWorker

TEXT_ROLES = (Role.DECODER, Role.TEXT, Role.WHOLE)


class Pool:
    """The decode workers of one role that have a credit, by predicted finish and by free room."""

    def __init__(self) -> None:
        self.placement: Placement[DecodeWorker] = FinishIndex()
        self._roomiest: Ranking[DecodeWorker] = Ranking()
        self.members: dict[WorkerId, DecodeWorker] = {}  # those without a credit included

    def update(self, worker: DecodeWorker) -> None:
        """A worker has joined, or what it holds or its rate has changed."""
        self.members[worker.id] = worker
        self.placement.update(worker, worker.has_credit)
        if worker.has_credit:
            self._roomiest.put(worker, -worker.room)
        else:
            self._roomiest.discard(worker)

    def remove(self, worker: DecodeWorker) -> None:
        """A worker has left."""
        del self.members[worker.id]
        self.placement.remove(worker)
        self._roomiest.discard(worker)

    @property
    def considered(self) -> list[tuple[DecodeWorker, float]]:
        """What the latest choice looked at, and when each would be done, in seconds."""
        return self.placement.considered

    def choose(
        self, output_tokens: int, kv_tokens: int, allowed: Callable[[DecodeWorker], bool]
    ) -> DecodeWorker | None:
        """The worker for a request, if one has a credit and room for it.

        The earliest predicted finish among those that are looked at; where caches are so full that none of these has
        room, the roomiest of all.
        """
        self.placement.considered = []
        roomiest = self._roomiest.first(anyone, 0)
        if roomiest is None or not (kv_tokens <= roomiest[1].room or kv_tokens > roomiest[1].kv_tokens):
            return None
        best = self.placement.best(output_tokens, lambda worker: worker.admits(kv_tokens) and allowed(worker))
        if best is None and roomiest[1].admits(kv_tokens) and allowed(roomiest[1]):
            best = roomiest[1]
        return best


class Admission:
    """READY requests in order of their tags, in two lanes, text and images, because these may use different workers.

    **The head blocks.** A request for which no worker has room keeps every later one off all the workers that it could
    use, even one that would fit: else a stream of small requests would keep a large one waiting for ever. The head
    itself always gets its turn: its worker drains, and an empty worker admits a request of any size.
    """

    def __init__(self, workers: WorkerTable) -> None:
        self._workers = workers
        self._pools = {role: Pool() for role in TEXT_ROLES}
        self._text: PriorityQueue[LiveRequest] = PriorityQueue()
        self._images: PriorityQueue[LiveRequest] = PriorityQueue()
        self._stealable: PriorityQueue[LiveRequest] = PriorityQueue()  # those of the text lane, from its end
        self._running: dict[int, int] = {}  # requests by `Worker.order`
        self.running = 0
        self._due = False  # has anything changed since the heads were found blocked?

    def __len__(self) -> int:
        return len(self._text) + len(self._images)

    def __contains__(self, request: LiveRequest) -> bool:
        return request in self._lane(request)

    def withhold(self, request: LiveRequest) -> None:
        """Queues a request at the place of its tag."""
        lane = self._lane(request)
        lane.push(request, request.tag)
        if request.stealable and not request.decodes:
            self._stealable.push(request, -request.tag)
        if lane.first() is request:
            self._due = True

    def withdraw(self, request: LiveRequest) -> None:
        """Takes a queued request out."""
        self._lane(request).remove(request)
        if request in self._stealable:
            self._stealable.remove(request)
        self._due = True

    def update(self, worker: DecodeWorker) -> None:
        """A worker has joined, or what it holds or its rate has changed."""
        self._pools[worker.role].update(worker)
        self.running += len(worker.running) - self._running.get(worker.order, 0)
        self._running[worker.order] = len(worker.running)
        self._due = True

    def remove(self, worker: DecodeWorker) -> None:
        """A worker has left."""
        self._pools[worker.role].remove(worker)
        self.running -= self._running.pop(worker.order)
        self._due = True

    def wake(self) -> None:
        """Which workers a request may use can have changed."""
        self._due = True

    def next(self) -> tuple[LiveRequest, DecodeWorker] | None:
        """The request to hand out now and the worker for it; None while every head is blocked."""
        if not self._due:
            return None
        heads = [head for lane in (self._text, self._images) if (head := lane.first()) is not None]
        if len(heads) == 2 and (heads[1].tag, heads[1].arrival) < (heads[0].tag, heads[0].arrival):
            heads.reverse()
        barred: tuple[Role, ...] = ()
        for request in heads:
            roles = self._roles(request)
            worker = self._choose(request, [role for role in roles if role not in barred] if barred else roles)
            if worker is not None:
                return request, worker
            barred = roles
        self._due = False
        return None

    def considered(self) -> list[tuple[DecodeWorker, float]]:
        """What the latest choice looked at, and when each would be done, in seconds."""
        return [each for pool in self._pools.values() for each in pool.considered]

    def without_embeddings(self) -> list[LiveRequest]:
        """The queued image requests that were not encoded because a `whole` worker was to take them."""
        return [request for request in self._images.unordered() if not request.has_embeddings]

    def waits_longest(self) -> list[LiveRequest]:
        """The last in the queue that may be stolen: a few of them, from the end."""
        return self._stealable.first_few(LOOKED_AT)

    @property
    def workers(self) -> int:
        """How many decode workers there are."""
        return len(self._running)

    @property
    def tokens_per_s(self) -> float:
        """What all decode workers generate together."""
        return sum(pool.placement.tokens_per_s for pool in self._pools.values())

    def _lane(self, request: LiveRequest) -> PriorityQueue[LiveRequest]:
        return self._images if request.items else self._text

    def _roles(self, request: LiveRequest) -> tuple[Role, ...]:
        if not request.items:
            return TEXT_ROLES
        split = request.has_embeddings and self._workers.decoders[Role.DECODER]
        return (Role.DECODER,) if split else (Role.WHOLE,)

    def _choose(self, request: LiveRequest, roles: Iterable[Role]) -> DecodeWorker | None:
        kv_tokens = request.kv_tokens()
        allowed: Callable[[DecodeWorker], bool] = anyone
        if request.decode_failed_on:
            # A worker that failed at it stays out as long as another lives, even a full one: refusing comes quickly,
            # and would use up all attempts while a sound worker is busy.
            everyone = ChainMap(*(self._pools[role].members for role in roles))
            allowed = avoiding(everyone, request.decode_failed_on)
        best: DecodeWorker | None = None
        for role in roles:
            worker = self._pools[role].choose(request.output_tokens, kv_tokens, allowed)
            if worker is not None and (best is None or _finish(worker, request) < _finish(best, request)):
                best = worker
        return best

    def check_integrity(self) -> None:
        """Raises AssertionError where the lanes are unsound, or a head is withheld though a worker has room for it."""
        self._text.check_integrity()
        self._images.check_integrity()
        self._stealable.check_integrity()
        stealable = [one for one in self._text.unordered() if one.stealable and not one.decodes]
        assert sorted(one.arrival for one in self._stealable.unordered()) == sorted(one.arrival for one in stealable)
        self._due = True
        assert self.next() is None, "a request is withheld beside a credit"


def _finish(worker: DecodeWorker, request: LiveRequest) -> float:
    return (worker.owed + request.output_tokens) / worker.rate.tokens_per_s
