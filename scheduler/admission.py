"""Which withheld request goes to which decode worker next.

Owns the queue of READY requests and the order of the workers. Reads workers, never books on them (`scheduler.lifecycle`
does). Imports only `chiasm.nouns`, the standard library and its neighbours.
"""

from collections import ChainMap

from chiasm.nouns import Role
from scheduler.finish_index import LOOKED_AT, Candidate
from scheduler.ordering import PriorityQueue
from scheduler.placement import avoiding
from scheduler.pool import Pool
from scheduler.requests import LiveRequest
from scheduler.table import WorkerTable
from scheduler.workers import DecodeWorker


class Admission:
    """READY requests in order of their tags, in two lanes, text and images, because these may use different workers.

    **The head blocks.** A request for which no worker has room keeps every later one off all the workers that it could
    use, even one that would fit: else a stream of small requests would keep a large one waiting for ever. The head
    itself always gets its turn: its worker drains, and an empty worker admits a request of any size.

    **Prefills are few at a time.** A decoder computes prompts in the order in which it gets them, a chunk in each step.
    What is handed out beyond that waits inside, where no text can pass it: so long prompts, those with images, come one
    after the other (`DecodeWorker.takes_prefill`). Such a head keeps nobody off; what passes it takes no place in the
    prefill, and it is the first to be asked whenever a prefill ends.
    """

    def __init__(self, workers: WorkerTable, steals: bool) -> None:
        self._workers = workers
        self._decoders, self._text_only, self._whole = Pool(), Pool(), Pool()
        self._pools = {Role.DECODER: self._decoders, Role.TEXT: self._text_only, Role.WHOLE: self._whole}
        self._manned: list[Pool] = []  # those with a member
        self._text: PriorityQueue[LiveRequest] = PriorityQueue()
        self._images: PriorityQueue[LiveRequest] = PriorityQueue()
        self._steals = steals
        self._stealable: PriorityQueue[LiveRequest] = PriorityQueue()  # those of the text lane, from its end
        self._due = False  # has anything changed since the heads were found blocked?
        self.considered: list[Candidate[DecodeWorker]] = []  # by the latest choice

    def __len__(self) -> int:
        return len(self._text) + len(self._images)

    def __contains__(self, request: LiveRequest) -> bool:
        return request in self._text or request in self._images

    def withhold(self, request: LiveRequest) -> None:
        """Queues a request at the place of its tag."""
        lane = self._images if request.parts else self._text
        lane.put(request, request.tag)
        if self._may_be_stolen(request):
            self._stealable.put(request, -request.tag)
        if lane.first() is request:
            self._due = True

    def withdraw(self, request: LiveRequest) -> None:
        """Takes a queued request out."""
        lane = self._images if request.parts else self._text
        lane.discard(request)
        if self._steals and request.stealable:
            self._stealable.discard(request)
        self._due = True

    def add(self, worker: DecodeWorker) -> None:
        """A worker has registered."""
        self._pools[worker.role].add(worker)
        self._manned = [pool for pool in self._pools.values() if pool.members]

    def remove(self, worker: DecodeWorker) -> None:
        """A worker has left."""
        self._pools[worker.role].remove(worker)
        self._manned = [pool for pool in self._pools.values() if pool.members]

    def wake(self) -> None:
        """Which workers a request may use can have changed."""
        self._due = True

    def next(self) -> tuple[LiveRequest, DecodeWorker] | None:
        """The request to hand out now and the worker for it; None while every head is blocked."""
        if not (self._due or self._workers.decode_crew.changed):
            return None
        for worker in self._workers.decode_crew.changed:
            self._pools[worker.role].update(worker)
        self._workers.decode_crew.changed.clear()
        self.considered = []
        barred: list[Pool] = []
        for request in self._heads():
            pools = self._pools_for(request)
            if barred:
                pools = [pool for pool in pools if pool not in barred]
            self.considered = self._candidates(request, pools, request.prefill_tokens)
            if self.considered:
                return request, min(self.considered)[2]
            if not (request.prefill_tokens and self._candidates(request, pools)):
                barred = pools
        self._due = False
        return None

    def without_embeddings(self) -> list[LiveRequest]:
        """The queued image requests that were not encoded because a `whole` worker was to take them."""
        return [request for request in self._images.unordered() if not request.entries]

    def waits_longest(self) -> list[LiveRequest]:
        """The last in the queue that may be stolen: a few of them, from the end."""
        return self._stealable.first_few(LOOKED_AT)

    def _may_be_stolen(self, request: LiveRequest) -> bool:
        return self._steals and request.stealable and not request.decodes

    def _heads(self) -> list[LiveRequest]:
        """The first of each lane in order of their turns; none while no worker has a credit."""
        if not (self._decoders.with_credit or self._text_only.with_credit or self._whole.with_credit):
            return []
        text, image = self._text.first(), self._images.first()
        if text is None or image is None:
            return [head for head in (text, image) if head is not None]
        return [text, image] if (text.tag, text.arrival) < (image.tag, image.arrival) else [image, text]

    def _pools_for(self, request: LiveRequest) -> list[Pool]:
        """Those whose workers could generate it, as it is now."""
        if not request.parts:
            return self._manned
        return [self._decoders] if request.entries and self._decoders.members else [self._whole]

    def _candidates(
        self, request: LiveRequest, pools: list[Pool], prefill_tokens: int = 0
    ) -> list[Candidate[DecodeWorker]]:
        allowed = None
        if request.decode_failed_on:
            # A worker that failed at it stays out as long as another lives, even a full one: refusing comes quickly,
            # and would use up all attempts while a sound worker is busy.
            everyone = ChainMap(*(pool.members for pool in pools))
            allowed = avoiding(everyone, request.decode_failed_on)
        return [
            each for pool in pools if pool.with_credit for each in pool.candidates(request, allowed, prefill_tokens)
        ]

    def check_integrity(self) -> None:
        """Raises AssertionError where the lanes are unsound, or a head is withheld though a worker has room for it."""
        self._text.check_integrity()
        self._images.check_integrity()
        self._stealable.check_integrity()
        stealable = [one for one in self._text.unordered() if self._may_be_stolen(one)]
        assert sorted(one.arrival for one in self._stealable.unordered()) == sorted(one.arrival for one in stealable)
        self._due = True
        assert self.next() is None, "a request is withheld beside a credit"
