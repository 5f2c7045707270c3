"""Which withheld request goes to which decode worker next.

Owns the queue of READY requests and the order of the workers. Reads workers, never books on them (`scheduler.lifecycle`
does). Imports only `chiasm.nouns`, the standard library and its neighbours.
"""

import math
from collections import ChainMap
from collections.abc import Callable

from chiasm.nouns import Role
from scheduler.arrangement_forecasts import Forecasts
from scheduler.finish_index import LOOKED_AT, Candidate
from scheduler.ordering import PriorityQueue
from scheduler.placement import avoiding
from scheduler.pool import Pool
from scheduler.requests import LiveRequest
from scheduler.table import WorkerTable
from scheduler.workers import DecodeWorker


class Admission:
    """READY requests in order of their tags, in lanes, because they may use different workers: text, images that are
    encoded, and images that are to go whole.

    **The head blocks.** A request for which no worker has room keeps every later one off all the workers that it could
    use, even one that would fit: else a stream of small requests would keep a large one waiting for ever. The head
    itself always gets its turn: its worker drains, and an empty worker admits a request of any size.

    **Prefills are few at a time.** A decoder computes prompts in the order in which it gets them, a chunk in each step.
    What is handed out beyond that waits inside, where no text can pass it: so long prompts, those with images, come one
    after the other (`DecodeWorker.takes_prefill`). Such a head keeps nobody off; what passes it takes no place in the
    prefill, and it is the first to be asked whenever a prefill ends.

    **Where images may go either way**, a whole worker takes the first of those that are encoded, if no decoder has room
    and it would have it done sooner; and what was to go whole and finds no room there is up for another choice
    (`waits_for_whole`).

    A head that is blocked is asked again when something has changed that can unblock it (`due`):

    | what | who says so |
    |---|---|
    | the head itself, or which workers there are | `withhold`, `withdraw`, and the dispatch by `wake` |
    | what a decode worker holds, its rate, a prompt that is through | the worker, in `DecodeCrews.changed` |
    | which way is sooner, where both live: what encoders owe and do, and all that waits | the dispatch by `wake` |
    """

    def __init__(self, workers: WorkerTable, forecasts: Forecasts, steals: bool) -> None:
        self._workers = workers
        self._changed = workers.decode_crews.changed
        self._forecasts = forecasts
        self._decoders, self._text_only, self._whole = Pool(), Pool(), Pool()
        self._pools = {Role.DECODER: self._decoders, Role.TEXT: self._text_only, Role.WHOLE: self._whole}
        self._manned: list[Pool] = []  # those with a member
        self._text: PriorityQueue[LiveRequest] = PriorityQueue()
        self._images: PriorityQueue[LiveRequest] = PriorityQueue()
        self._for_whole: PriorityQueue[LiveRequest] = PriorityQueue()
        # Tokens that those in a lane may generate.
        self.text_output = self.image_output = self.whole_output = 0
        self.whole_prompts = 0  # tokens of the prompts that wait for a whole worker
        self.waits_for_whole: LiveRequest | None = None  # the first of these, if `next` left it and it has a choice
        self._steals = steals
        # Those of the text lane, from its end and from its front.
        self._stealable: PriorityQueue[LiveRequest] = PriorityQueue()
        self._stealable_first: PriorityQueue[LiveRequest] = PriorityQueue()
        self.due = False  # has anything changed since the heads were found blocked?

    def __len__(self) -> int:
        return len(self._text) + len(self._images) + len(self._for_whole)

    def __contains__(self, request: LiveRequest) -> bool:
        return request in (self._for_whole if request.whole else self._images if request.parts else self._text)

    def withhold(self, request: LiveRequest) -> None:
        """Queues a request at the place of its tag."""
        if request.whole:
            lane = self._for_whole
            self.whole_output += request.output_tokens
            self.whole_prompts += request.prompt_tokens
        elif request.parts:
            lane = self._images
            self.image_output += request.output_tokens
        else:
            lane = self._text
            self.text_output += request.output_tokens
        lane.put(request, request.tag)
        if lane.first is request:
            self.due = True
        if self._may_be_stolen(request):
            self._stealable.put(request, -request.tag)
            self._stealable_first.put(request, request.tag)

    def withdraw(self, request: LiveRequest) -> None:
        """Takes a queued request out."""
        if request.whole:
            self._for_whole.discard(request)
            self.whole_output -= request.output_tokens
            self.whole_prompts -= request.prompt_tokens
        elif request.parts:
            self._images.discard(request)
            self.image_output -= request.output_tokens
        else:
            self._text.discard(request)
            self.text_output -= request.output_tokens
        if self._steals and request.stealable:
            self._stealable.discard(request)
            self._stealable_first.discard(request)
        self.due = True

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
        self.due = True

    def next(self) -> tuple[LiveRequest, DecodeWorker, list[Candidate[DecodeWorker]]] | None:
        """The request to hand out now, the worker for it, and what that was chosen from; None if all are blocked."""
        self.waits_for_whole = None
        if self._changed:
            self._see_changes()
        elif not self.due:
            return None
        barred: list[Pool] = []
        for request in self._heads():
            pools = self._pools_for(request)
            if barred:
                pools = [pool for pool in pools if pool not in barred]
            prefill_tokens = request.prefill_tokens if request.parts else 0
            considered = self._candidates(request, pools, prefill_tokens)
            if not considered and self._workers.both_live and request.parts and not request.whole:
                considered = [] if self._whole in barred else self._sooner_whole(request)
            if considered:
                return request, min(considered)[2], considered
            if not (prefill_tokens and self._candidates(request, pools)):
                barred = [*barred, *pools]
        self.due = False
        if self._workers.both_live:
            self.waits_for_whole = self._for_whole.first
        return None

    def first_text_tag(self) -> float:
        """The smallest tag of the text that waits; infinity if none does."""
        first = self._text.first
        return math.inf if first is None else first.tag

    def first_image_tag(self) -> float:
        """The smallest tag of what waits for a worker with all its images, or whole; infinity if nothing does."""
        encoded, whole = self._images.first, self._for_whole.first
        tag = math.inf if encoded is None else encoded.tag
        return tag if whole is None else min(tag, whole.tag)

    @property
    def output(self) -> int:
        """Tokens that all that waits may generate."""
        return self.text_output + self.image_output + self.whole_output

    @property
    def wholes_wait(self) -> bool:
        """Does anything wait for a whole worker?"""
        return self._for_whole.first is not None

    def for_whole(self) -> list[LiveRequest]:
        """The queued requests that are to go to a whole worker, in order of their turns."""
        return sorted(self._for_whole.unordered(), key=_turn)

    def a_whole_could_take(self, request: LiveRequest) -> bool:
        """Could a whole worker take this request at once, without keeping its streams waiting for too long?"""
        if self._changed:
            self._see_changes()
        return bool(self._whole.candidates(request, self._keeping_objective(request), 0))

    def all_wholes_failed_at(self, request: LiveRequest) -> bool:
        """Has every whole worker failed at this request?"""
        return bool(request.decode_failed_on) and self._whole.members.keys() <= request.decode_failed_on

    def credits_for(self, request: LiveRequest, most: int) -> int:
        """How many requests of this one's size could be handed out now, ahead of all that waits; so many at most."""
        self._see_changes()
        workers = (worker for pool in self._manned for worker in pool.with_credit)
        found = 0
        while found < most and (worker := next(workers, None)) is not None:
            found += worker.takes(request.kv_tokens)
        return found

    def waits_longest(self) -> list[LiveRequest]:
        """The last in the queue that may be stolen: a few of them, from the end."""
        return self._stealable.first_few(LOOKED_AT)

    def first_stealable(self) -> list[LiveRequest]:
        """The first in the queue that may be stolen, if any: whose turn it is while only thieves live."""
        first = self._stealable_first.first
        return [] if first is None else [first]

    def _see_changes(self) -> None:
        self.due = True
        for worker in self._changed:
            self._pools[worker.role].update(worker)
        self._changed.clear()

    def _may_be_stolen(self, request: LiveRequest) -> bool:
        return self._steals and request.stealable and not request.decodes

    def _heads(self) -> list[LiveRequest]:
        """The first of each lane in order of their turns; none while no worker has a credit."""
        if not (self._decoders.with_credit or self._text_only.with_credit or self._whole.with_credit):
            return []
        text, image, whole = self._text.first, self._images.first, self._for_whole.first
        if whole is not None:
            return sorted((head for head in (text, image, whole) if head is not None), key=_turn)
        if text is None or image is None:
            return [head for head in (text, image) if head is not None]
        return [text, image] if (text.tag, text.arrival) < (image.tag, image.arrival) else [image, text]

    def _pools_for(self, request: LiveRequest) -> list[Pool]:
        """Those whose workers could generate it, as it is now."""
        if not request.parts:
            return self._manned
        return [self._decoders] if self._decoders.members and not request.whole else [self._whole]

    def _sooner_whole(self, request: LiveRequest) -> list[Candidate[DecodeWorker]]:
        """The whole workers that could take an encoded request now, and would have it done before a decoder would."""
        if self.all_wholes_failed_at(request):
            return []
        allowed = avoiding(self._whole.members, request.decode_failed_on)
        found = self._whole.candidates(request, self._keeping_objective(request, allowed), 0)
        return [each for each in found if self._forecasts.encoded(request, each[2]).whole_is_sooner]

    def _candidates(
        self, request: LiveRequest, pools: list[Pool], prefill_tokens: int = 0
    ) -> list[Candidate[DecodeWorker]]:
        allowed = None
        if request.decode_failed_on:
            # A worker that failed at it stays out as long as another lives, even a full one: refusing comes quickly,
            # and would use up all attempts while a sound worker is busy.
            everyone = ChainMap(*(pool.members for pool in pools))
            allowed = avoiding(everyone, request.decode_failed_on)
        if request.whole and self._workers.both_live:
            allowed = self._keeping_objective(request, allowed)
        found: list[Candidate[DecodeWorker]] = []
        for pool in pools:
            if pool.with_credit:
                found += pool.candidates(request, allowed, prefill_tokens)
        return found

    def _keeping_objective(
        self, request: LiveRequest, allowed: Callable[[DecodeWorker], bool] | None = None
    ) -> Callable[[DecodeWorker], bool]:
        """Those of the whole workers that are allowed whose streams it does not keep waiting for too long."""
        keeps_objective = self._forecasts.keeps_objective
        if allowed is None:
            return lambda worker: keeps_objective(worker, request)
        return lambda worker: allowed(worker) and keeps_objective(worker, request)

    def check_integrity(self) -> None:
        """Raises AssertionError where the lanes are unsound, or a head is withheld though a worker has room for it."""
        self._text.check_integrity()
        self._images.check_integrity()
        self._for_whole.check_integrity()
        texts, images, wholes = self._text.unordered(), self._images.unordered(), self._for_whole.unordered()
        assert self.text_output == sum(one.output_tokens for one in texts), "waiting text is miscounted"
        assert self.image_output == sum(one.output_tokens for one in images), "waiting images are miscounted"
        assert self.whole_output == sum(one.output_tokens for one in wholes), "what is to go whole is miscounted"
        assert self.whole_prompts == sum(one.prompt_tokens for one in wholes), "prompts to go whole are miscounted"
        stealable = [one for one in self._text.unordered() if self._may_be_stolen(one)]
        for queue in (self._stealable, self._stealable_first):
            queue.check_integrity()
            assert sorted(map(_turn, queue.unordered())) == sorted(map(_turn, stealable)), "what may be stolen"
        self.due = True
        assert self.next() is None, "a request is withheld beside a credit"
        for request in self._heads():
            for pool in self._pools_for(request):
                pool.check_integrity(request)


def _turn(request: LiveRequest) -> tuple[float, int]:
    return request.tag, request.arrival
