"""The life of a request: every change of its state, and the one container that each state keeps it in.

Owns the live requests, their deadlines and their use of embeddings. What an event means is `scheduler.core`'s to say.
Imports only `chiasm.{nouns,messages,config}`, the standard library and its neighbours.
"""

from collections.abc import Callable, Iterable

from chiasm.config import SchedulerConfig
from chiasm.messages import NOBODY, Decode, Reject, RejectReason, Submit
from chiasm.nouns import ItemUuid, RequestId, RequestState, Role
from scheduler.admission import Admission
from scheduler.directory import Directory, Entry
from scheduler.encodes import Encodes
from scheduler.fairness import FairClock
from scheduler.ordering import PriorityQueue
from scheduler.reasons import Reasons, beside
from scheduler.requests import LiveRequest
from scheduler.table import WorkerTable
from scheduler.workers import DecodeWorker


class Lifecycle:
    """Requests from Submit to their end. ENCODING and DECODING are kept here, READY in `Admission`."""

    def __init__(
        self,
        config: SchedulerConfig,
        workers: WorkerTable,
        directory: Directory,
        encodes: Encodes,
        admission: Admission,
        counters: dict[str, int],
        reasons: Reasons,
        changed: Callable[[DecodeWorker], None],
    ) -> None:
        self._reasons = reasons
        self._changed = changed  # what a worker holds
        self._max_attempts = config.max_attempts
        self._workers = workers
        self._directory = directory
        self._encodes = encodes
        self._admission = admission
        self._counters = counters
        self.live: dict[RequestId, LiveRequest] = {}
        self.encoding: dict[RequestId, LiveRequest] = {}
        self.decoding: dict[RequestId, LiveRequest] = {}
        self.orphans: dict[RequestId, None] = {}  # of those decoding, the ones whose engine is lost
        self.owed_output = 0  # tokens that live requests may still generate
        self.rejects: list[Reject] = []  # not yet taken by the core
        self._deadlines: PriorityQueue[LiveRequest] = PriorityQueue()
        self._fairness = FairClock()
        self._arrivals = 0

    @property
    def withheld(self) -> int:
        """Live requests that no live engine holds."""
        return len(self.encoding) + len(self._admission) + len(self.orphans)

    # -- the way through -----------------------------------------------------------------------------------------

    def admit(self, submit: Submit, now: float) -> None:
        """Begins the life of a request whose id is not live."""
        self._arrivals += 1
        if not self.withheld:
            self._fairness.rest()
        request = LiveRequest.of(submit, self._arrivals, now)
        request.tag = self._fairness.tag(submit.tenant, submit.weight, request.kv_tokens())
        self._reasons.open(request.id)
        self._reasons.note(
            request.id,
            "admitted",
            ahead=self.withheld,
            items=len(request.distinct),
            tokens=request.kv_tokens(),
            output_tokens=request.output_tokens,
            weight=submit.weight,
        )
        self.live[request.id] = self.encoding[request.id] = request
        self._deadlines.push(request, request.deadline)
        self.owed_output += request.output_tokens
        self.seek(request)

    def seek(self, request: LiveRequest) -> None:
        """Looks for the embeddings that a request lacks: READY with all of them, ENCODING while it waits for some."""
        if request.items and self._workers.prefers_whole:
            self._drop_embeddings(request)
            self._reasons.note(request.id, "goes whole")
            self._move(request, RequestState.READY)
            return
        self._unkeep(request)
        for item in request.largest_first:
            if item.uuid in request.entries or item.uuid in request.waiting:
                continue
            entry = self._directory.acquire(item.uuid, request.id)
            if entry is not None:
                self._counters["encode_cached"] += 1
                request.entries[item.uuid] = entry
                self._reasons.note(request.id, "encode cached", entry.worker, item.uuid)
            elif request.encodes.get(item.uuid, 0) < self._max_attempts:
                self._encodes.want(request.id, item, request.tag)
                request.waiting[item.uuid] = None
            else:
                self.fail(request, RejectReason.ATTEMPTS, f"the embedding of item {item.uuid} was lost too often")
                return
        self._move(request, RequestState.ENCODING if request.waiting else RequestState.READY)
        if request.state is RequestState.READY and not request.kept:
            self._keep(request)

    def landed(self, entry: Entry) -> None:
        """An item is encoded: every request that uses the new entry stops waiting for it."""
        uuid = entry.embedding.uuid
        for request in [self.live[user] for user in entry.users]:
            request.encodes[uuid] = request.encodes.get(uuid, 0) + 1
            request.entries[uuid] = entry
            self._reasons.note(request.id, "encoded", entry.worker, uuid, tokens=entry.embedding.shape[0])
            del request.waiting[uuid]
            if not request.waiting:
                self._move(request, RequestState.READY)

    def encode_failed(self, uuid: ItemUuid, waiters: Iterable[RequestId], detail: str) -> None:
        """An attempt at an item came to nothing: charged to all that waited, and the end of those that had the last."""
        for request in [self.live[waiter] for waiter in waiters]:
            attempts = request.encodes[uuid] = request.encodes.get(uuid, 0) + 1
            self._reasons.note(request.id, "encode failed", detail=f"{uuid}: {detail}", attempt=attempts)
            if attempts >= self._max_attempts:
                self.fail(request, RejectReason.ATTEMPTS, f"item {uuid}: {detail} (attempt {attempts})")

    def lose(self, entries: list[Entry]) -> None:
        """Embeddings are gone: out of the directory, and the withheld requests that counted on them seek anew."""
        self._counters["embeddings_lost"] += len(entries)
        users: dict[RequestId, None] = {}
        for entry in entries:
            self._directory.drop(entry)
            for user in entry.users:
                self._reasons.note(user, "embedding lost", entry.worker, entry.embedding.uuid)
                self._unkeep(self.live[user])
                del self.live[user].entries[entry.embedding.uuid]
                users[user] = None
            entry.users.clear()
        for user in users:
            self.seek(self.live[user])

    def hand_out(self, request: LiveRequest, worker: DecodeWorker) -> Decode:
        """Books a READY request on a worker. From here on it is the decoder that notices a lost embedding."""
        kv_tokens = request.kv_tokens()
        embeddings = request.embeddings() if worker.role is Role.DECODER else ()
        self._unkeep(request)
        for entry in request.entries.values():
            self._directory.release(entry, request.id)
        if not embeddings:
            request.entries = {}
        self._move(request, RequestState.DECODING)
        request.decoder = worker
        request.decodes += 1
        self._reasons.note(
            request.id,
            "decode posted",
            worker.id,
            others=beside(worker, self._admission.considered()),
            owed=worker.owed,
            tokens=request.output_tokens,
            tokens_per_s=worker.rate.tokens_per_s,
            kv_tokens=kv_tokens,
            room=worker.room,
            running=len(worker.running),
        )
        worker.reserve(request.id, kv_tokens, request.output_tokens)
        self._changed(worker)
        self._fairness.served(request.tag)
        self._counters["decodes"] += 1
        return Decode(request.id, worker.id, worker.role, worker.url, embeddings)

    def orphan(self, worker: DecodeWorker) -> None:
        """An engine is lost. Only their gateways know whether its requests delivered a token, so these must report."""
        self.orphans.update(dict.fromkeys(worker.running))
        for request in worker.running:
            self._reasons.note(request, "decoder lost", worker.id)

    def retry_decode(self, request: LiveRequest, detail: str) -> None:
        """Brings a request back from its decoder, unless that was its last attempt."""
        request.entries = {}  # released when they were handed out; those still current are found again
        self._reasons.note(request.id, "decode failed", detail=detail, attempt=request.decodes)
        if request.decodes >= self._max_attempts:
            self.fail(request, RejectReason.ATTEMPTS, f"{detail} (attempt {request.decodes})")
            return
        self._counters["decode_retries"] += 1
        self.seek(request)

    def give_back(self, request: LiveRequest, output_tokens: int) -> None:
        """A thief has stopped after so many tokens: the rest is for a decoder, and is not stolen again."""
        self._counters["returned"] += 1
        self._reasons.note(request.id, "returned", request.decoder.id if request.decoder else NOBODY)
        done = min(output_tokens, request.output_tokens)
        request.text_tokens += done
        request.output_tokens -= done
        self.owed_output -= done
        request.stealable = False
        request.decodes -= 1
        self.seek(request)

    # -- the ends ------------------------------------------------------------------------------------------------

    def finish(self, request: LiveRequest) -> None:
        """The answer is complete."""
        self._counters["done"] += 1
        self._end(request, RequestState.DONE)

    def cancel(self, request: LiveRequest) -> None:
        """The client left. The gateway drops what it has posted, which frees the credits now."""
        self._counters["cancelled"] += 1
        self._end(request, RequestState.CANCELLED)

    def fail(self, request: LiveRequest, reason: RejectReason, detail: str) -> None:
        """A named error. The gateway drops what it has posted, which frees the credits now."""
        self._end(request, RequestState.FAILED, f"{reason.value}: {detail}")
        self.reject(request.id, reason, detail)

    def reject(self, request: RequestId, reason: RejectReason, detail: str, retry: float | None = None) -> None:
        """Answers with a named error; `request` is not live, or no longer."""
        self._counters[f"failed_{reason.value}"] += 1
        self.rejects.append(Reject(request, reason, detail, retry))

    def expire(self, now: float) -> None:
        """Ends every request whose deadline has passed."""
        while (request := self._deadlines.first()) is not None and request.deadline <= now:
            self.fail(request, RejectReason.DEADLINE, f"its deadline passed while it was {request.state}")

    def _end(self, request: LiveRequest, state: RequestState, detail: str = "") -> None:
        self._drop_embeddings(request)
        self._reasons.note(request.id, "ended", detail=detail or state.value)
        self._move(request, state)
        self._deadlines.remove(request)
        self.owed_output -= request.output_tokens
        del self.live[request.id]

    # -- bookkeeping ---------------------------------------------------------------------------------------------

    def _move(self, request: LiveRequest, state: RequestState) -> None:
        if request.state is state:
            return
        self._unkeep(request)
        self._leave_container(request)
        request.state = state
        if state is RequestState.ENCODING:
            self.encoding[request.id] = request
        elif state is RequestState.READY:
            self._keep(request)
            self._admission.withhold(request)
        elif state is RequestState.DECODING:
            self.decoding[request.id] = request

    def _keep(self, request: LiveRequest) -> None:
        request.kept = True
        for entry in request.entries.values():
            entry.ready += 1
            if entry.ready == 1:
                self._encodes.keep(entry.worker, entry.nbytes)

    def _unkeep(self, request: LiveRequest) -> None:
        if request.kept:
            request.kept = False
            for entry in request.entries.values():
                entry.ready -= 1
                if entry.ready == 0:
                    self._encodes.keep(entry.worker, -entry.nbytes)

    def _leave_container(self, request: LiveRequest) -> None:
        if request.state is RequestState.ENCODING:
            del self.encoding[request.id]
        elif request.state is RequestState.READY:
            self._admission.withdraw(request)
        elif request.decoder is not None:
            del self.decoding[request.id]
            self.orphans.pop(request.id, None)
            request.decoder.release(request.id)
            if self._workers.get(request.decoder.id) is request.decoder:  # else its books are void with its engine
                self._changed(request.decoder)
            request.decoder = None

    def _drop_embeddings(self, request: LiveRequest) -> None:
        self._unkeep(request)
        for uuid in request.waiting:
            self._encodes.leave(request.id, uuid)
        for entry in request.entries.values():
            self._directory.release(entry, request.id)
        request.waiting, request.entries = {}, {}

    def check_integrity(self) -> None:
        """Raises AssertionError where a request is in no container or in two, or counts on what is not there."""
        self._deadlines.check_integrity()
        assert len(self._deadlines) == len(self.live), "a deadline without a request, or the other way round"
        assert self.owed_output == sum(one.output_tokens for one in self.live.values()), "owed output is miscounted"
        assert self.orphans.keys() <= self.decoding.keys(), "an orphan does not decode"
        assert len(self.live) == len(self.encoding) + len(self._admission) + len(self.decoding), "a request is astray"
        for request in self.live.values():
            self._check_container(request)
            self._check_embeddings(request)

    def _check_container(self, request: LiveRequest) -> None:
        held = (request.id in self.encoding, request in self._admission, request.id in self.decoding)
        order = (RequestState.ENCODING, RequestState.READY, RequestState.DECODING)
        assert held == tuple(request.state is state for state in order), f"{request.id} is {request.state}: {held}"
        assert request in self._deadlines, f"{request.id} has no deadline"
        assert (request.decoder is not None) == (request.state is RequestState.DECODING), f"{request.id}: its decoder"
        if request.decoder is not None:
            assert request.id in request.decoder.running, f"{request.id} holds nothing on its decoder"
        assert request.decodes <= self._max_attempts, f"{request.id} was decoded too often"
        assert all(count <= self._max_attempts for count in request.encodes.values()), f"{request.id}: encodes"

    def _check_embeddings(self, request: LiveRequest) -> None:
        assert bool(request.waiting) == (request.state is RequestState.ENCODING), f"{request.id} waits for nothing"
        assert all(uuid in self._encodes for uuid in request.waiting), f"{request.id} waits for an encode that is not"
        if request.state is RequestState.DECODING:
            return
        for uuid, entry in request.entries.items():
            assert uuid not in request.waiting, f"{request.id} waits for what it has"
            assert self._directory.is_current(entry), f"{request.id} counts on an embedding that is gone"
            assert request.id in entry.users, f"{request.id} does not hold on to its embedding"
        found = len(request.entries) + len(request.waiting)
        assert found in (0, len(request.distinct)), f"{request.id} has no way to some of its embeddings"
