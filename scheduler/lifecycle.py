"""The life of a request: what each event does to it, from its admission until it ends.

Owns the order of turns. Where requests stand is in `scheduler.roster`; what an event means is for `scheduler.core` to
say. Imports only `chiasm.{nouns,messages}`, the standard library and its neighbours.
"""

import math
from collections.abc import Iterable, Sequence

from chiasm.messages import NOBODY, Decode, RejectReason, Submit
from chiasm.nouns import Embedding, ItemUuid, RequestId, Role
from scheduler.admission import Admission
from scheduler.clock import Clock
from scheduler.directory import Directory, Entry
from scheduler.encodes import Encodes
from scheduler.fairness import FairClock
from scheduler.finish_index import Candidate
from scheduler.reasons import Reasons
from scheduler.requests import LiveRequest, live_request
from scheduler.roster import Roster
from scheduler.routing import Routing
from scheduler.split_or_stay import SplitOrStay
from scheduler.table import WorkerTable
from scheduler.workers import DecodeWorker

HAD_ITS_TURN = -math.inf
"""The tag of what a thief has given back: it goes on as soon as a decoder has room."""


class Lifecycle:
    """What happens to the requests of a roster."""

    def __init__(
        self,
        max_attempts: int,
        workers: WorkerTable,
        directory: Directory,
        encodes: Encodes,
        admission: Admission,
        roster: Roster,
        routing: Routing,
        split_or_stay: SplitOrStay,
        counters: dict[str, int],
        reasons: Reasons,
        clock: Clock,
    ) -> None:
        self._max_attempts = max_attempts
        self._workers = workers
        self._directory = directory
        self._encodes = encodes
        self._admission = admission
        self._roster = roster
        self._routing = routing
        self._split_or_stay = split_or_stay
        self._counters = counters
        self._reasons = reasons
        self._clock = clock
        self._text_clock, self._image_clock = FairClock(), FairClock()
        self._arrivals = 0

    def admit(self, submit: Submit, withheld: int, now: float) -> None:
        """Begins the life of a request whose id is not live, while so many are withheld."""
        self._arrivals += 1
        request = live_request(submit, self._arrivals, now)
        request.tag = self._tag(request, submit, withheld)
        numbers = withheld, len(request.parts), request.kv_tokens, request.output_tokens, submit.weight
        self._reasons.admitted(request.id, numbers)
        self._roster.enter(request)
        self._routing.seek(request)

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
        tag, job = self._admission.first_image_tag(), self._encodes.waiting.first
        return tag if job is None else min(tag, job.tag)

    # -- encodes -------------------------------------------------------------------------------------------------

    def landed(self, entry: Entry) -> None:
        """An item is encoded: every request that uses the new entry stops waiting for it."""
        uuid = entry.embedding.uuid
        for user in list(entry.users):
            request = self._roster.live[user]
            request.found(uuid, entry).encodes += 1
            self._reasons.note(user, "encoded", entry.worker, uuid, (entry.embedding.shape[0],))
            if not request.waiting:
                self._roster.to_ready(request)

    def encode_failed(self, uuid: ItemUuid, waiters: Iterable[RequestId], detail: str) -> None:
        """An attempt at an item came to nothing: charged to all that waited, and the end of those that had the last."""
        for request in [self._roster.live[waiter] for waiter in waiters]:
            part = request.parts[uuid]
            part.encodes = attempts = part.encodes + 1
            self._reasons.note(request.id, "encode failed", NOBODY, f"{uuid}: {detail}", (attempts,))
            if attempts >= self._max_attempts:
                self._roster.fail(request, RejectReason.ATTEMPTS, f"item {uuid}: {detail} (attempt {attempts})")

    def lose(self, entries: list[Entry]) -> None:
        """Embeddings are gone: out of the directory, and the withheld requests that counted on them seek anew."""
        self._counters["embeddings_lost"] += len(entries)
        users: dict[RequestId, None] = {}
        for entry in entries:
            self._directory.drop(entry)
            for user in entry.users:
                self._reasons.note(user, "embedding lost", entry.worker, entry.embedding.uuid)
                request = self._roster.live[user]
                self._roster.unkeep(request)
                request.parts[entry.embedding.uuid].entry = None
                users[user] = None
            entry.users.clear()
        for user in users:
            self._routing.seek(self._roster.live[user])

    # -- decodes -------------------------------------------------------------------------------------------------

    def hand_out(
        self, request: LiveRequest, worker: DecodeWorker, considered: Sequence[Candidate[DecodeWorker]] = ()
    ) -> Decode:
        """Books a READY request on a worker. From here on it is the decoder that notices a lost embedding.

        `considered` are the workers that it was chosen from, if there was a choice. Why a thief takes one is for
        `scheduler.thieving` to note.
        """
        embeddings = self._hand_over(request, worker) if request.parts else ()
        request_id, output_tokens, kv_tokens = request.id, request.output_tokens, request.kv_tokens
        if not worker.host:
            rate, running = worker.rate.tokens_per_s, len(worker.running)
            numbers = worker.owed, output_tokens, rate, kv_tokens, worker.room, running
            self._reasons.note(request_id, "decode posted", worker.id, "", numbers, considered)
        self._roster.to_decoding(request, worker)
        if request.parts:
            prompt, prefill = request.prompt_tokens, request.prefill_tokens
            worker.reserve(request_id, kv_tokens, output_tokens, self._clock.now, prompt, prefill)
            self._image_clock.served(request.tag, self._first_image_tag())
        else:
            worker.reserve(request_id, kv_tokens, output_tokens, self._clock.now)
            # A thief takes from the end of the queue, all others from its head.
            self._text_clock.served(request.tag, self._admission.first_text_tag() if worker.host else math.inf)
        self._counters["decodes"] += 1
        return Decode(request_id, worker.id, worker.role, worker.url, embeddings)

    def _hand_over(self, request: LiveRequest, worker: DecodeWorker) -> tuple[Embedding, ...]:
        """The embeddings that go with a request, which uses them no longer."""
        if worker.role is Role.WHOLE:
            self._counters["images_whole"] += 1
            if self._workers.both_live and not request.whole:
                self._split_or_stay.note_taken(request, worker)
            self._roster.drop_embeddings(request)
            return ()
        entries = request.entries
        for entry in entries:
            self._directory.release(entry, request.id)
        return tuple([entry.embedding for entry in entries])

    def retry_decode(self, request: LiveRequest, detail: str) -> None:
        """Brings a request back from its decoder, unless that was its last attempt."""
        for part in request.parts.values():
            part.entry = None  # released when it was handed out; if it is still current it is found again
        self._reasons.note(request.id, "decode failed", NOBODY, detail, (request.decodes,))
        if request.decodes >= self._max_attempts:
            self._roster.fail(request, RejectReason.ATTEMPTS, f"{detail} (attempt {request.decodes})")
            return
        self._counters["decode_retries"] += 1
        self._routing.seek(request)

    def give_back(self, request: LiveRequest, output_tokens: int) -> None:
        """A thief has stopped after so many tokens: the rest is for a decoder, before all else, and stolen no more."""
        self._counters["returned"] += 1
        done = min(output_tokens, request.output_tokens)
        self._reasons.note(request.id, "returned", request.decoder.id if request.decoder else NOBODY, "", (done,))
        request.output_tokens -= done
        self._roster.owed_output -= done
        request.stealable = False
        request.decodes -= 1
        request.tag = HAD_ITS_TURN
        self._routing.seek(request)

    def check_integrity(self) -> None:
        """Raises AssertionError where a request has been tried too often."""
        for request in self._roster.live.values():
            assert request.decodes <= self._max_attempts, f"{request.id} was decoded too often"
            assert all(part.encodes <= self._max_attempts for part in request.parts.values()), f"{request.id}: encodes"
