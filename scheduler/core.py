"""The scheduling core: events in, decisions out, one function for each event.

Owns, through its parts, all requests, queues, credits and whereabouts. Pure and deterministic: no I/O, no clock, no
randomness; the live host, the simulator and the tests run this same object. Imports only
`chiasm.{nouns,messages,config}`, the standard library and its neighbours.
"""

import math
from collections.abc import Callable
from typing import Any

from chiasm.config import SchedulerConfig
from chiasm.messages import (
    AskReasons,
    AskStatus,
    Cancel,
    DecodeBegun,
    DecodeDone,
    DecodeFailed,
    EncodeDone,
    EncodeFailed,
    Evicted,
    Heartbeat,
    Lost,
    Register,
    RejectReason,
    Returned,
    Status,
    Submit,
    Unknown,
    WorkerStatus,
)
from chiasm.messages import Reasons as ReasonsAnswer
from chiasm.nouns import RequestId, WorkerId
from scheduler.admission import Admission
from scheduler.arrangement_forecasts import Forecasts
from scheduler.clock import Clock
from scheduler.counters import new_counters
from scheduler.directory import Directory
from scheduler.dispatch import Dispatch
from scheduler.encodes import Encodes
from scheduler.events import Decision, Event, Refused
from scheduler.finish_index import FinishIndex
from scheduler.integrity import check_together
from scheduler.lifecycle import Lifecycle
from scheduler.placement import Placement, retry_after_s, seconds_of
from scheduler.reasons import Reasons
from scheduler.roster import Roster
from scheduler.routing import Routing
from scheduler.split_or_stay import SplitOrStay
from scheduler.stealing import Mode
from scheduler.table import WorkerTable, fault
from scheduler.thieving import Thieving
from scheduler.workers import DecodeWorker, EncodeWorker

NONE_REGISTERED = "no worker that could take it has registered"


class Core:
    """All of the scheduler but its sockets and its clock. One writer: calls must not overlap.

    `now` is in seconds on any clock; only its advance counts. A step back counts as no time at all, so that deadlines
    neither fire early nor wait until the old time has come round again.

    Args:
        config: bounds and deadlines.
        encoders: how encodes are placed; by least predicted finish unless given.
        stealing: whether thieves steal, and whether they yield to an image or share the card with it.
        itl_slo_s: the objective for inter-token latency, which a stolen request must be kept within, and the streams
            of a whole worker that encodes an image.
    """

    def __init__(
        self,
        config: SchedulerConfig,
        encoders: Placement[EncodeWorker] | None = None,
        stealing: Mode = "yield",
        itl_slo_s: float = 0.2,
    ) -> None:
        self._queue_limit = config.queue_limit
        self._heartbeat_timeout_s = config.heartbeat_timeout_s
        self._is_new = True
        self._counters = new_counters()
        self._clock = Clock()
        self._reasons = Reasons(config.explained_requests, self._clock)
        self._workers = WorkerTable(config.look_ahead)
        self._directory = Directory(config.cached_items)
        self._encodes = Encodes(self._workers.encoders, encoders or FinishIndex(), self._counters, self._reasons)
        forecasts = Forecasts(self._workers, self._directory, self._encodes, itl_slo_s)
        self._admission = Admission(self._workers, forecasts, steals=stealing != "off")
        split_or_stay = SplitOrStay(self._admission, forecasts, self._reasons)
        self._roster = Roster(self._directory, self._encodes, self._admission, self._counters, self._reasons)
        self._routing = Routing(
            config.max_attempts,
            self._workers,
            self._directory,
            self._encodes,
            self._roster,
            split_or_stay,
            self._counters,
            self._reasons,
        )
        self._life = Lifecycle(
            config.max_attempts,
            self._workers,
            self._directory,
            self._encodes,
            self._admission,
            self._roster,
            self._routing,
            split_or_stay,
            self._counters,
            self._reasons,
            self._clock,
        )
        self._thieving = Thieving(
            stealing,
            itl_slo_s,
            self._workers,
            self._admission,
            self._roster,
            self._life,
            self._counters,
            self._reasons,
            self._clock,
        )
        self._dispatch = Dispatch(
            self._workers, self._encodes, self._admission, self._roster, self._routing, self._life, self._thieving
        )
        self._answers: list[Decision] = []  # to the event that is handled
        self._handlers: dict[type[Event], Callable[[Any], None]] = {
            Submit: self._submit,
            EncodeDone: self._encode_done,
            EncodeFailed: self._encode_failed,
            DecodeBegun: self._decode_begun,
            DecodeDone: self._decode_done,
            DecodeFailed: self._decode_failed,
            Returned: self._returned,
            Cancel: self._cancel,
            AskStatus: self._ask_status,
            AskReasons: self._ask_reasons,
            Register: self._register,
            Heartbeat: self._heartbeat,
            Lost: lambda event: self._lost(event.worker, event.reason),
            Evicted: self._evicted,
        }

    def handle(self, event: Event, now: float) -> list[Decision]:
        """The decisions that follow from one event."""
        self._clock.advance(now)
        out = self._answers = []
        self._handlers[type(event)](event)
        self._dispatch.settle(out)
        return out

    def tick(self, now: float) -> list[Decision]:
        """The decisions that follow from the passing of time: deadlines, and workers that have fallen silent."""
        self._clock.advance(now)
        out = self._answers = []
        self._roster.expire(self._clock.now)
        if self._is_new and self._clock.now >= self._heartbeat_timeout_s:
            self._grow_up()
        for worker in self._workers.silent_since(self._clock.now - self._heartbeat_timeout_s):
            self._lost(worker, f"not heard of for {self._heartbeat_timeout_s} s")
        self._thieving.tick()
        self._dispatch.settle(out)
        return out

    def status(self, request: RequestId, now: float) -> Status:
        """A snapshot as of `now`, as the answer to `request`."""
        self._clock.advance(now)
        return self._status(request)

    def reasons(self, request: RequestId, about: RequestId, now: float) -> ReasonsAnswer:
        """Why the request `about` was treated as it was, as the answer to `request`, as of `now`."""
        self._clock.advance(now)
        return self._reasons_answer(request, about)

    def _reasons_answer(self, request: RequestId, about: RequestId) -> ReasonsAnswer:
        return ReasonsAnswer(request, about, self._reasons.of(about), self._clock.now)

    def _status(self, request: RequestId) -> Status:
        return Status(
            request,
            ready=self._workers.split_lives or self._workers.whole_lives,
            workers=tuple(self._worker_status(worker) for worker in self._workers),
            encoding=len(self._roster.live) - len(self._admission) - self._roster.decoding,
            withheld=len(self._admission),
            decoding=self._roster.decoding,
            counters=dict(self._counters),
            thieves=self._thieving.statuses(),
        )

    @property
    def live(self) -> int:
        """How many requests have begun and not ended."""
        return len(self._roster.live)

    def check_integrity(self) -> None:
        """Holds all books against each other. For tests and the simulator: it scans everything.

        Raises:
            AssertionError: they do not agree; the message says which.
        """
        for part in (self._workers, self._directory, self._encodes, self._admission, self._roster, self._life):
            part.check_integrity()
        self._dispatch.check_integrity()
        self._thieving.check_integrity()
        check_together(self._workers, self._directory, self._encodes, self._roster, self._counters)

    # -- gateways ------------------------------------------------------------------------------------------------

    def _submit(self, event: Submit) -> None:
        if event.request in self._roster.live:
            # No Reject: under this id it would end the request that lives.
            self._refuse(event.request, "a request of this id is under way")
            return
        has_items = len(event.items) > 0
        self._counters["submitted"] += 1
        self._counters["images_submitted"] += has_items
        withheld = self._roster.withheld
        if not 0 < event.deadline_s < math.inf:
            self._roster.reject(event.request, RejectReason.DEADLINE, f"deadline_s is {event.deadline_s}")
        elif not self._expects_worker(has_items):
            self._roster.reject(event.request, RejectReason.NO_WORKER, NONE_REGISTERED)
        elif withheld >= self._queue_limit:
            detail = f"{withheld} requests wait already"
            self._roster.reject(event.request, RejectReason.QUEUE_FULL, detail, self._retry_after_s(has_items))
        else:
            self._life.admit(event, withheld, self._clock.now)
            self._thieving.due = True

    def _expects_worker(self, has_items: bool) -> bool:
        """A core that is new may have followed upon another one, whose workers have yet to hear of it."""
        return self._is_new or (self._workers.images_known if has_items else self._workers.text_known)

    def _grow_up(self) -> None:
        """All workers that live had the time to register: requests wait no longer for such as have not."""
        self._is_new = False
        for request in list(self._roster.live.values()):
            if not self._expects_worker(bool(request.parts)):
                self._roster.fail(request, RejectReason.NO_WORKER, NONE_REGISTERED)

    def _retry_after_s(self, has_items: bool) -> float:
        waits = [seconds_of(self._roster.owed_output, self._workers.decode_crews.tokens_per_s)]
        if has_items and not self._workers.prefers_whole:
            waits.append(seconds_of(self._encodes.owed, self._encodes.tokens_per_s))
        return retry_after_s(*waits)

    def _encode_done(self, event: EncodeDone) -> None:
        """Also takes the result of an encode whose request has ended: it was paid for."""
        embedding = event.embedding
        owed = self._encodes.settle_report(event.request, event.worker, embedding.uuid)
        if owed or event.worker not in self._workers.encoders or embedding.uuid in self._directory:
            self._counters["stale"] += 1
            return
        waiters = self._encodes.finish(event)
        self._life.landed(self._directory.put(event.worker, embedding, event.nbytes, waiters))

    def _encode_failed(self, event: EncodeFailed) -> None:
        owed = self._encodes.settle_report(event.request, event.worker, event.uuid)
        job = None if owed else self._encodes.posted(event.request, event.worker, event.uuid)
        if job is None:
            self._counters["stale"] += 1
        elif event.unreachable:
            self._lost(event.worker, event.reason)
            self._encodes.settle_report(event.request, event.worker, event.uuid)  # this was the report
        elif event.retryable:
            self._encodes.take_failed(job)
            self._life.encode_failed(job.uuid, job.waiters, event.reason)
            self._encodes.retry(job)
        else:
            for waiter in self._encodes.end(job.uuid):
                self._roster.fail(self._roster.live[waiter], RejectReason.BAD_ITEM, f"item {job.uuid}: {event.reason}")

    def _decode_begun(self, event: DecodeBegun) -> None:
        request = self._roster.decoded_by(event.worker, event.request)
        if request is None or request.decoder is None:
            self._counters["stale"] += 1
        elif request.decoder.registered:
            request.decoder.begun(request.id, event.seconds)

    def _decode_done(self, event: DecodeDone) -> None:
        request = self._roster.decoded_by(event.worker, event.request)
        if request is None:
            self._counters["stale"] += 1
        else:
            self._roster.finish(request, event.output_tokens, event.seconds)

    def _decode_failed(self, event: DecodeFailed) -> None:
        request = self._roster.decoded_by(event.worker, event.request)
        if request is None:
            self._counters["stale"] += 1
            return
        lost = [entry for entry in request.entries if entry.embedding.uuid in event.lost]
        self._counters["transfers_failed"] += len(lost)
        self._life.lose([entry for entry in lost if self._directory.is_current(entry)])
        if event.unreachable and request.decoder is not None and request.decoder.registered:
            self._lost(event.worker, event.reason)  # it is this engine, and none that was started since
        if not event.retryable:
            self._roster.fail(request, RejectReason.DECODE, event.reason)
            return
        if not event.lost:  # else the decoder is not at fault
            request.decode_failed_on |= {event.worker}
        self._life.retry_decode(request, event.reason)

    def _returned(self, event: Returned) -> None:
        request = self._roster.decoded_by(event.worker, event.request)
        if request is None or not self._thieving.returns(request):
            self._counters["stale"] += 1
            return
        self._life.give_back(request, event.output_tokens)
        self._thieving.gave_back(request)

    def _cancel(self, event: Cancel) -> None:
        request = self._roster.live.get(event.request)
        if request is not None:  # else it has ended meanwhile, which is nobody's mistake
            self._roster.cancel(request)

    def _ask_status(self, event: AskStatus) -> None:
        self._answers.append(self._status(event.request))

    def _ask_reasons(self, event: AskReasons) -> None:
        self._answers.append(self._reasons_answer(event.request, event.about))

    # -- workers -------------------------------------------------------------------------------------------------

    def _register(self, event: Register) -> None:
        self._lost(event.worker, "its engine was started anew")
        reason = fault(event)
        if reason is not None:
            self._refuse(event.worker, reason)
            return
        worker = self._workers.add(event, self._clock.now)
        if isinstance(worker, EncodeWorker):
            self._encodes.add(worker)
        elif worker.host:
            self._thieving.add(worker)
        else:
            self._admission.add(worker)
        self._dispatch.pools_changed(worker)

    def _heartbeat(self, event: Heartbeat) -> None:
        if not self._workers.heard(event.worker, self._clock.now):
            self._answers.append(Unknown(event.worker, event.registrations))

    def _lost(self, worker_id: WorkerId, reason: str) -> None:
        worker = self._workers.get(worker_id)
        if worker is None:
            return
        self._counters["workers_lost"] += 1
        self._workers.remove(worker)
        if isinstance(worker, EncodeWorker):
            self._encoder_lost(worker, reason)
        else:
            if worker.host:
                self._thieving.remove(worker)
            else:
                self._admission.remove(worker)
            self._roster.orphan(worker)
        self._dispatch.pools_changed(worker)

    def _encoder_lost(self, encoder: EncodeWorker, reason: str) -> None:
        ran, withheld = self._encodes.take_all(encoder)
        for job in ran:
            self._life.encode_failed(job.uuid, job.waiters, f"{encoder.id} was lost: {reason}")
        self._life.lose(self._directory.entries_of(encoder.id))
        for job in ran:
            self._encodes.retry(job)
        for job in withheld:
            self._encodes.place(job)
        self._thieving.mind([encoder])

    def _evicted(self, event: Evicted) -> None:
        for key in event.keys:
            self._life.lose(self._directory.entries_under(event.worker, key))

    def _refuse(self, sender: RequestId | WorkerId, reason: str) -> None:
        self._counters["refused"] += 1
        self._answers.append(Refused(sender, reason))

    def _worker_status(self, worker: EncodeWorker | DecodeWorker) -> WorkerStatus:
        return WorkerStatus(
            worker.id,
            worker.role,
            worker.node,
            worker.url,
            running=len(worker.running),
            waiting=len(worker.waiting) if isinstance(worker, EncodeWorker) else 0,
            slots=worker.slots,
            kv_tokens=worker.kv_tokens,
            tokens_per_s=worker.rate.tokens_per_s,
            held=self._directory.held_by(worker.id),
            measured=worker.measured,
            fallback=worker.fallback,
        )
