"""The life of a request: every change of its state, and what goes with it.

Owns the live requests, their deadlines and their use of embeddings. What an event means is `scheduler.core`'s to say.
Imports only `chiasm.{nouns,messages,config}`, the standard library and its neighbours.
"""

import math
from collections.abc import Iterable

from chiasm.config import SchedulerConfig
from chiasm.messages import NOBODY, Decode, Reject, RejectReason, Submit
from chiasm.nouns import Embedding, ItemUuid, RequestId, RequestState, Role, WorkerId
from scheduler.admission import Admission
from scheduler.deadlines import Deadlines
from scheduler.directory import Directory, Entry
from scheduler.encodes import Encodes
from scheduler.fairness import FairClock
from scheduler.reasons import Reasons
from scheduler.requests import LiveRequest
from scheduler.split_or_stay import SplitOrStay
from scheduler.table import WorkerTable
from scheduler.workers import DecodeWorker

ENCODING, READY, DECODING = RequestState.ENCODING, RequestState.READY, RequestState.DECODING
"""Looked up once: a member of an Enum takes longer to get at than to compare with."""


class Lifecycle:
    """Requests from Submit to their end; those READY are also in `Admission`."""

    def __init__(
        self,
        config: SchedulerConfig,
        workers: WorkerTable,
        directory: Directory,
        encodes: Encodes,
        admission: Admission,
        split_or_stay: SplitOrStay,
        counters: dict[str, int],
        reasons: Reasons,
    ) -> None:
        self._split_or_stay = split_or_stay
        self._reasons = reasons
        self._max_attempts = config.max_attempts
        self._workers = workers
        self._directory = directory
        self._encodes = encodes
        self._admission = admission
        self._counters = counters
        self.live: dict[RequestId, LiveRequest] = {}
        self.decoding = 0  # how many
        self.owed_output = 0  # tokens that live requests may still generate
        self.rejects: list[Reject] = []  # not yet taken by the core
        self._given_back: list[LiveRequest] = []  # by thieves, and those that wait for a decoder among them
        self._deadlines = Deadlines(self.live)
        self._text_clock, self._image_clock = FairClock(), FairClock()
        self._arrivals = 0

    @property
    def withheld(self) -> int:
        """Live requests that no live engine holds."""
        return len(self.live) - self._workers.decode_crews.running - self._workers.thief_crew.running

    def withheld_images(self) -> list[LiveRequest]:
        """Those with images that no decoder has been given."""
        return [request for request in self.live.values() if request.parts and request.state is not DECODING]

    def decoded_by(self, worker: WorkerId, request: RequestId) -> LiveRequest | None:
        """The request, if it decodes there, even if that engine is lost."""
        found = self.live.get(request)
        return found if found is not None and found.decoder is not None and found.decoder.id == worker else None

    # -- the way through -----------------------------------------------------------------------------------------

    def admit(self, submit: Submit, withheld: int, now: float) -> None:
        """Begins the life of a request whose id is not live, while so many are withheld."""
        self._arrivals += 1
        request = LiveRequest(submit, self._arrivals, now)
        request.tag = self._tag(request, submit, withheld)
        self._reasons.open(request.id)
        numbers = withheld, len(request.parts), request.kv_tokens, request.output_tokens, submit.weight
        self._reasons.note(request.id, "admitted", NOBODY, "", *numbers)
        self.live[request.id] = request
        self._deadlines.add(request)
        self.owed_output += request.output_tokens
        self.seek(request)

    def _tag(self, request: LiveRequest, submit: Submit, withheld: int) -> float:
        """Text and images have a clock each: they do not wait for the same, and either may be far ahead of the other.

        One of which nobody waits catches up, as it has to be compared with the other at the decoders.
        """
        text, images = self._text_clock, self._image_clock
        if not withheld:
            text.rest()
            images.rest()
        if request.parts:
            if images.now < text.now and self._first_image_tag() == math.inf:
                images.catch_up(text)
            return images.tag(submit.tenant, submit.weight, request.kv_tokens)
        if text.now < images.now and self._admission.first_text_tag() == math.inf:
            text.catch_up(images)
        return text.tag(submit.tenant, submit.weight, request.kv_tokens)

    def _first_image_tag(self) -> float:
        """Of what waits for an encoder or a decoder. What is being encoded is not kept waiting by others."""
        return min(self._admission.first_image_tag(), self._encodes.first_tag())

    def seek(self, request: LiveRequest) -> None:
        """Looks for the embeddings that a request lacks: READY with all of them, ENCODING while it waits for some."""
        if not request.parts:
            self._move(request, READY)
            return
        if self._workers.prefers_whole:
            self._reasons.note(request.id, "only whole")
            self._go_whole(request)
        elif self._workers.both_live and self._is_to_go_whole(request):
            self._go_whole(request)
        else:
            self._go_split(request)

    def choose_anew(self, request: LiveRequest) -> bool:
        """Workers have come or gone: sends a withheld request with images the better way, unless it is encoded now.

        Returns whether it goes whole and did not.
        """
        was_whole = request.whole
        waits_for = [uuid for uuid, part in request.parts.items() if part.waiting]
        if was_whole or (waits_for and not any(map(self._encodes.begun, waits_for))):
            self.seek(request)
        return request.whole and not was_whole

    def leaves_whole(self, request: LiveRequest) -> bool:
        """Sends the first of those that wait for a whole worker through the split, if that is better by now."""
        if self.stays_whole(request):
            return False
        self._go_split(request)
        return True

    def stays_whole(self, request: LiveRequest) -> bool:
        """Is the first of those that wait for a whole worker to go on waiting for it?"""
        withheld = self._withheld_output(request)
        return self._encoded_too_often(request) or self._split_or_stay.stays_whole(request, withheld)

    def _is_to_go_whole(self, request: LiveRequest) -> bool:
        withheld = self._withheld_output(request)
        return self._encoded_too_often(request) or self._split_or_stay.goes_whole(request, withheld)

    def _encoded_too_often(self, request: LiveRequest) -> bool:
        """Is there an item that may not be encoded once more, and has no embedding?"""
        return any(
            part.encodes >= self._max_attempts and uuid not in self._directory for uuid, part in request.parts.items()
        )

    def _withheld_output(self, request: LiveRequest) -> int:
        """Tokens that all others may generate that no live engine holds."""
        held = self._workers.decode_crews.owed + self._workers.thief_crew.owed
        holds_it = request.decoder is not None and request.decoder.registered
        return self.owed_output - held - (0 if holds_it else request.output_tokens)

    def _go_whole(self, request: LiveRequest) -> None:
        if not request.whole:
            self._move(request, ENCODING)  # out of its lane
            self._drop_embeddings(request)
            request.whole = True
        self._move(request, READY)

    def _go_split(self, request: LiveRequest) -> None:
        if request.whole:
            self._move(request, ENCODING)
            request.whole = False
        self._unkeep(request)
        for part in request.largest_first:
            if part.waiting or part.entry is not None:
                continue
            uuid = part.item.uuid
            entry = self._directory.acquire(uuid, request.id)
            if entry is not None:
                self._counters["encode_cached"] += 1
                request.found(uuid, entry)
                self._reasons.note(request.id, "encode cached", entry.worker, uuid)
            elif part.encodes < self._max_attempts:
                self._encodes.want(request.id, part.item, request.tag)
                part.waiting = True
                request.waiting += 1
            else:
                self.fail(request, RejectReason.ATTEMPTS, f"the embedding of item {uuid} was lost too often")
                return
        self._move(request, ENCODING if request.waiting else READY)
        if request.state is READY and not request.kept:
            self._keep(request)

    def landed(self, entry: Entry) -> None:
        """An item is encoded: every request that uses the new entry stops waiting for it."""
        uuid = entry.embedding.uuid
        for user in list(entry.users):
            request = self.live[user]
            request.found(uuid, entry).encodes += 1
            self._reasons.note(request.id, "encoded", entry.worker, uuid, entry.embedding.shape[0])
            if not request.waiting:
                self._move(request, READY)

    def encode_failed(self, uuid: ItemUuid, waiters: Iterable[RequestId], detail: str) -> None:
        """An attempt at an item came to nothing: charged to all that waited, and the end of those that had the last."""
        for request in [self.live[waiter] for waiter in waiters]:
            part = request.parts[uuid]
            part.encodes = attempts = part.encodes + 1
            self._reasons.note(request.id, "encode failed", NOBODY, f"{uuid}: {detail}", attempts)
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
                request = self.live[user]
                self._unkeep(request)
                request.parts[entry.embedding.uuid].entry = None
                users[user] = None
            entry.users.clear()
        for user in users:
            self.seek(self.live[user])

    def hand_out(self, request: LiveRequest, worker: DecodeWorker) -> Decode:
        """Books a READY request on a worker. From here on it is the decoder that notices a lost embedding."""
        self._move(request, DECODING)
        embeddings = self._hand_over(request, worker) if request.parts else ()
        request.decoder = worker
        request.decodes += 1
        finish = worker.owed, request.output_tokens, worker.rate.tokens_per_s
        numbers = *finish, request.kv_tokens, worker.room, len(worker.running)
        considered = self._admission.considered
        self._reasons.note(request.id, "decode posted", worker.id, "", *numbers, considered=considered)
        prompt = (request.prompt_tokens, request.prefill_tokens) if request.parts else ()
        worker.reserve(request.id, request.kv_tokens, request.output_tokens, *prompt)
        self.decoding += 1
        if request.parts:
            self._image_clock.served(request.tag, self._first_image_tag())
        elif worker.host:  # a thief takes from the end of the queue, all others from its head
            self._text_clock.served(request.tag, self._admission.first_text_tag())
        else:
            self._text_clock.served(request.tag)
        self._counters["decodes"] += 1
        return Decode(request.id, worker.id, worker.role, worker.url, embeddings)

    def _hand_over(self, request: LiveRequest, worker: DecodeWorker) -> tuple[Embedding, ...]:
        """The embeddings that go with a request, which uses them no longer."""
        if worker.role is Role.WHOLE:
            self._counters["images_whole"] += 1
            if self._workers.both_live and not request.whole:
                self._split_or_stay.note_taken(request, worker)
            self._drop_embeddings(request)
            return ()
        entries = request.entries
        for entry in entries:
            self._directory.release(entry, request.id)
        return tuple([entry.embedding for entry in entries])

    def orphan(self, worker: DecodeWorker) -> None:
        """An engine is lost. Only their gateways know whether its requests delivered a token, so these must report."""
        for request in worker.running:
            self._reasons.note(request, "decoder lost", worker.id)

    def orphans_of(self, worker: WorkerId) -> list[LiveRequest]:
        """The requests that were handed to a worker of this name before it was lost, and have not been reported on."""
        handed = (one for one in self.live.values() if one.decoder is not None and one.decoder.id == worker)
        return [one for one in handed if one.decoder is not None and not one.decoder.registered]

    def retry_decode(self, request: LiveRequest, detail: str) -> None:
        """Brings a request back from its decoder, unless that was its last attempt."""
        for part in request.parts.values():
            part.entry = None  # released when it was handed out; if it is still current it is found again
        self._reasons.note(request.id, "decode failed", NOBODY, detail, request.decodes)
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
        request.output_tokens -= done
        self.owed_output -= done
        request.stealable = False
        request.decodes -= 1
        self._given_back.append(request)
        self.seek(request)

    def given_back_waiting(self) -> int:
        """How many of those that thieves gave back wait for a decoder."""
        self._given_back = [request for request in self._given_back if request.state is READY]
        return len(self._given_back)

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
        for request in self._deadlines.missed(now):
            self.fail(request, RejectReason.DEADLINE, f"its deadline passed while it was {request.state}")

    def _end(self, request: LiveRequest, state: RequestState, detail: str = "") -> None:
        if request.parts:
            self._drop_embeddings(request)
        self._reasons.note(request.id, "ended", detail=detail or state)
        self._move(request, state)
        self.owed_output -= request.output_tokens
        del self.live[request.id]

    # -- bookkeeping ---------------------------------------------------------------------------------------------

    def _move(self, request: LiveRequest, state: RequestState) -> None:
        if request.state is state:
            return
        if request.state is READY:
            if request.parts:
                self._unkeep(request)
            self._admission.withdraw(request)
        elif request.decoder is not None:
            if request.decoder.registered:
                request.decoder.release(request.id)
            request.decoder = None
            self.decoding -= 1
        request.state = state
        if state is READY:
            if request.parts:
                self._keep(request)
            self._admission.withhold(request)

    def _keep(self, request: LiveRequest) -> None:
        request.kept = True
        for entry in request.entries:
            entry.ready += 1
            if entry.ready == 1:
                self._encodes.keep(entry.worker, entry.nbytes)

    def _unkeep(self, request: LiveRequest) -> None:
        if request.kept:
            request.kept = False
            for entry in request.entries:
                entry.ready -= 1
                if entry.ready == 0:
                    self._encodes.keep(entry.worker, -entry.nbytes)

    def _drop_embeddings(self, request: LiveRequest) -> None:
        self._unkeep(request)
        for uuid, part in request.parts.items():
            if part.waiting:
                self._encodes.leave(request.id, uuid)
            elif part.entry is not None:
                self._directory.release(part.entry, request.id)
            part.waiting, part.entry = False, None
        request.waiting = 0

    def check_integrity(self) -> None:
        """Raises AssertionError where a request is not where its state says, or counts on what is not there."""
        self._deadlines.check_integrity()
        assert self.owed_output == sum(one.output_tokens for one in self.live.values()), "owed output is miscounted"
        assert self.decoding == sum(one.state is DECODING for one in self.live.values()), "decodes are miscounted"
        assert len(self._admission) == sum(one.state is READY for one in self.live.values()), "a request is astray"
        for request in self.live.values():
            self._check_state(request)
            self._check_embeddings(request)

    def _check_state(self, request: LiveRequest) -> None:
        assert (request in self._admission) == (request.state is READY), f"{request.id} is {request.state}"
        assert (request.decoder is not None) == (request.state is DECODING), f"{request.id}: its decoder"
        if request.decoder is not None:
            assert request.id in request.decoder.running, f"{request.id} holds nothing on its decoder"
        assert request.decodes <= self._max_attempts, f"{request.id} was decoded too often"
        assert all(part.encodes <= self._max_attempts for part in request.parts.values()), f"{request.id}: encodes"

    def _check_embeddings(self, request: LiveRequest) -> None:
        assert request.waiting == sum(part.waiting for part in request.parts.values()), f"{request.id}: its waits"
        assert (request.waiting > 0) == (request.state is ENCODING), f"{request.id} waits for nothing"
        assert not request.whole or not (request.waiting or request.entries), f"{request.id} has what it does not need"
        for uuid, part in request.parts.items():
            assert not part.waiting or uuid in self._encodes, f"{request.id} waits for an encode that is not"
            assert not part.waiting or part.entry is None, f"{request.id} waits for what it has"
        if request.state is DECODING:
            return
        for entry in request.entries:
            assert self._directory.is_current(entry), f"{request.id} counts on an embedding that is gone"
            assert request.id in entry.users, f"{request.id} does not hold on to its embedding"
        lost = [part for part in request.parts.values() if part.entry is None and not part.waiting]
        assert len(lost) == (len(request.parts) if request.whole else 0), f"{request.id} lacks an embedding"
