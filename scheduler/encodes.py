"""The encodes under way: one job an item, shared by every request that waits for it, queued at an encoder.

Owns the jobs and their queues; the requests behind them are ids here, and what a finished or failed encode means to
them is decided by `scheduler.lifecycle`. Imports only `chiasm.{nouns,messages}`, the standard library and its
neighbours.
"""

import math
from collections.abc import Iterable, Iterator

from chiasm.messages import Encode, EncodeDone
from chiasm.nouns import Item, ItemUuid, RequestId, WorkerId
from scheduler.finish_index import FinishIndex, candidate
from scheduler.ordering import PriorityQueue
from scheduler.placement import Placement, avoiding
from scheduler.reasons import Reasons
from scheduler.workers import EncodeJob, EncodeWorker


class Encodes:
    """Jobs by item. Each is in exactly one place: running at an encoder, withheld for one, or unplaced without any."""

    def __init__(
        self,
        encoders: dict[WorkerId, EncodeWorker],
        placement: Placement[EncodeWorker],
        counters: dict[str, int],
        reasons: Reasons,
    ) -> None:
        self._reasons = reasons
        self._encoders = encoders
        self._placement = placement
        self.owed = 0  # tokens of all jobs
        self.tokens_per_s = 0.0  # what all encoders do together
        self._counters = counters
        self._jobs: dict[ItemUuid, EncodeJob] = {}
        self._unplaced: dict[ItemUuid, EncodeJob] = {}
        self.waiting: PriorityQueue[EncodeJob] = PriorityQueue()  # for any encoder's credit
        self.due: dict[EncodeWorker, None] = {}  # whose credits or queue have changed; `scheduler.dispatch` clears it
        self._arrivals = 0

    def __contains__(self, uuid: ItemUuid) -> bool:
        return uuid in self._jobs

    def __iter__(self) -> Iterator[ItemUuid]:
        return iter(self._jobs)

    def want(self, request: RequestId, item: Item, tag: float) -> None:
        """Makes `request` wait for an item that nobody holds: joins its encode, or queues a new one under `tag`."""
        job = self._jobs.get(item.uuid)
        if job is None:
            self._arrivals += 1
            job = EncodeJob(item.uuid, max(item.tokens, 1), self._arrivals, tag, {request: None})
            self._jobs[item.uuid] = job
            self.owed += job.tokens
            self.place(job)
        else:
            self._counters["encode_shared"] += 1
            job.waiters[request] = None
            worker = job.encoder.id if job.encoder is not None else WorkerId("")
            self._reasons.note(request, "encode shared", worker, item.uuid)

    def leave(self, request: RequestId, uuid: ItemUuid) -> None:
        """Ends the wait of `request`, whose gateway drops what it has posted for it."""
        job = self._jobs.get(uuid)
        if job is None:
            return
        del job.waiters[request]
        if not job.waiters:
            self._forget(job)
        elif job.carrier == request and job.encoder is not None:
            # Its engine drops it; the next that waits carries it, when its turn comes again.
            encoder = job.encoder
            self._take(job)
            self._append(encoder, job)

    def settle_report(self, request: RequestId, worker: WorkerId, uuid: ItemUuid) -> bool:
        """Is this the report that is still owed about a posting to a lost engine? Then it is owed no longer."""
        job = self._jobs.get(uuid)
        if job is None or (request, worker) not in job.reports_owed:
            return False
        job.reports_owed -= {(request, worker)}
        return True

    def posted(self, request: RequestId, worker: WorkerId, uuid: ItemUuid) -> EncodeJob | None:
        """The job that runs at `worker` on behalf of `request`; None for one that does so no longer, or never did."""
        job = self._jobs.get(uuid)
        if job is None or job.encoder is None or (job.carrier, job.encoder.id) != (request, worker):
            return None
        return job

    def finish(self, event: EncodeDone) -> dict[RequestId, None]:
        """Ends the job of an item that is encoded now, whoever encoded it. Returns the requests that waited."""
        embedding = event.embedding
        job = self._jobs.get(embedding.uuid)
        if job is None:
            return {}
        encoder = job.encoder
        if encoder is not None and job.carrier == event.request and encoder.id == event.worker:
            self.tokens_per_s += encoder.learn(job, embedding.shape[0], event.seconds)
        self._forget(job)
        return job.waiters

    def end(self, uuid: ItemUuid) -> dict[RequestId, None]:
        """Ends the job of an item, if there is one. Returns the requests that waited."""
        job = self._jobs.get(uuid)
        if job is None:
            return {}
        self._forget(job)
        return job.waiters

    def take_failed(self, job: EncodeJob) -> None:
        """Takes a running job from the encoder that failed at it; `place` gives it to another one."""
        if job.encoder is not None:
            job.failed_on |= {job.encoder.id}
            self._take(job)

    def take_all(self, encoder: EncodeWorker) -> tuple[list[EncodeJob], list[EncodeJob]]:
        """Takes every job from an encoder that is lost: those that ran there, and those withheld for it."""
        ran, withheld = list(encoder.running.values()), sorted(encoder.waiting.unordered(), key=_turn)
        for job in ran:
            if job.carrier is not None:
                job.reports_owed |= {(job.carrier, encoder.id)}
        for job in (*ran, *withheld):
            self._take(job)
        self.due.pop(encoder, None)
        self.tokens_per_s -= encoder.rate.tokens_per_s
        self._placement.remove(encoder)
        return ran, withheld

    def retry(self, job: EncodeJob) -> None:
        """Places a job that has failed, if anybody still waits for it."""
        if job.waiters:
            self._counters["encode_retries"] += 1
            self.place(job)

    def place(self, job: EncodeJob) -> None:
        """Queues a job that is nowhere at the encoder that suits it best; nothing if nobody waits for it any more."""
        if not job.waiters:
            return
        if not self._encoders:
            self._unplaced[job.uuid] = job
            for waiter in job.waiters:
                self._reasons.note(waiter, "no encoder", detail=job.uuid)
            return
        fits = avoiding(self._encoders, job.failed_on) if job.failed_on else None
        encoder = self._placement.best(job.tokens, fits) or self._placement.best(job.tokens)
        assert encoder is not None
        numbers = encoder.owed, job.tokens, encoder.rate.tokens_per_s
        considered = self._placement.considered
        for waiter in job.waiters:
            self._reasons.note(waiter, "encode placed", encoder.id, job.uuid, numbers, considered)
        self._append(encoder, job)
        self.due[encoder] = None

    def add(self, encoder: EncodeWorker) -> None:
        """An encoder has registered: everything withheld is placed anew, so that it shares the backlog."""
        self.tokens_per_s += encoder.rate.tokens_per_s
        self._placement.update(encoder)
        withheld = [job for other in self._encoders.values() for job in other.waiting.unordered()]
        jobs = sorted((*withheld, *self._unplaced.values()), key=_turn)
        for job in jobs:
            self._take(job)
        for job in jobs:
            self.place(job)

    @property
    def mean_tokens_per_s(self) -> float:
        """What one encoder does; there must be one."""
        return self.tokens_per_s / len(self._encoders)

    def finish_s(self, uuid: ItemUuid) -> float:
        """Seconds until an item that somebody waits for is encoded, with all that its encoder owes."""
        encoder = self._jobs[uuid].encoder
        return encoder.owed / encoder.rate.tokens_per_s if encoder is not None else 0.0

    def soonest_s(self, items: list[int]) -> float:
        """Seconds until items of so many tokens would be encoded, if they were placed now; there must be an encoder.

        They fan out: no sooner than the largest is done at the best encoder, and no later than all of them there.
        """
        largest, tokens = max(items), sum(items)
        together_s = self._finish_s(tokens)
        if len(items) == 1:
            return together_s
        return max(self._finish_s(largest), min(together_s, (self.owed + tokens) / self.tokens_per_s))

    def _finish_s(self, tokens: int) -> float:
        """Of work of so many tokens at the encoder that would be done first, whatever the policy would choose."""
        if isinstance(self._placement, FinishIndex):
            return min(self._placement.candidates(tokens))[0]
        return min(candidate(encoder, tokens)[0] for encoder in self._encoders.values())

    def begun(self, uuid: ItemUuid) -> bool:
        """Is an item that somebody waits for being encoded?"""
        return self._jobs[uuid].carrier is not None

    def keep(self, worker: WorkerId, nbytes: int) -> None:
        """So many more bytes, or fewer, of an encoder's store are needed until some decoder has room."""
        encoder = self._encoders.get(worker)
        if encoder is not None:
            encoder.ready_bytes += nbytes
            self.due[encoder] = None

    def stranded(self) -> Iterable[RequestId]:
        """The requests that wait for an encode while no encoder is registered."""
        return dict.fromkeys(request for job in self._unplaced.values() for request in job.waiters)

    def hand_out(self) -> list[Encode]:
        """Fills every encoder that is due."""
        out: list[Encode] = []
        if self.waiting.first is None:
            return out
        for encoder in self.due:
            for job, carrier in encoder.start():
                self.waiting.discard(job)
                self._counters["encodes"] += 1
                self._reasons.note(carrier, "encode posted", encoder.id, job.uuid)
                out.append(Encode(carrier, job.uuid, encoder.id, encoder.url))
        return out

    def _append(self, encoder: EncodeWorker, job: EncodeJob) -> None:
        encoder.append(job)
        self.waiting.put(job, job.tag)
        self._placement.update(encoder)

    def _take(self, job: EncodeJob) -> None:
        if job.encoder is None:
            self._unplaced.pop(job.uuid, None)
        else:
            encoder = job.encoder
            if job.carrier is None:
                self.waiting.discard(job)
            self.due[encoder] = None
            encoder.remove(job)
            self._placement.update(encoder)

    def _forget(self, job: EncodeJob) -> None:
        self._take(job)
        self.owed -= job.tokens
        del self._jobs[job.uuid]

    def check_integrity(self) -> None:
        """Raises AssertionError where a job is in no place or in two, or where an encoder idles beside its queue."""
        encoders = self._encoders.values()
        running = [job for encoder in encoders for job in encoder.running.values()]
        waiting = [job for encoder in encoders for job in encoder.waiting.unordered()]
        everywhere = [job.uuid for job in (*running, *waiting, *self._unplaced.values())]
        rates = sum(encoder.rate.tokens_per_s for encoder in encoders)
        assert math.isclose(self.tokens_per_s, rates, abs_tol=0.1), "rates are miscounted"
        assert self.owed == sum(job.tokens for job in self._jobs.values()), "owed encodes are miscounted"
        assert sorted(everywhere) == sorted(self._jobs), "an encode has leaked"
        self.waiting.check_integrity()
        assert sorted(map(_turn, self.waiting.unordered())) == sorted(map(_turn, waiting)), "encodes that wait"
        assert not (self._unplaced and self._encoders), "an encode is unplaced beside an encoder"
        for job in self._jobs.values():
            assert job.waiters, "an encode that nobody waits for"
            assert job.carrier is None or job.carrier in job.waiters, "an encode is carried by one who does not wait"
        for encoder in self._encoders.values():
            assert not encoder.waiting or not encoder.may_start, "an encode waits beside a credit"


def _turn(job: EncodeJob) -> tuple[float, int]:
    return job.tag, job.arrival
