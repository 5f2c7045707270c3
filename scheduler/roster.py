"""The live requests: where each stands, what it holds there, and how it ends.

Owns them, their deadlines and their use of embeddings. What an event means to them is for `scheduler.{core,lifecycle}`
to say, and which way they go for `scheduler.routing`. Imports only `chiasm.{counters,nouns,messages}`, the standard
library and its neighbours.
"""

from chiasm.counters import FAILED
from chiasm.messages import NOBODY, Reject, RejectReason
from chiasm.nouns import RequestId, RequestState, WorkerId
from scheduler.admission import Admission
from scheduler.deadlines import Deadlines
from scheduler.directory import Directory
from scheduler.encodes import Encodes
from scheduler.reasons import Reasons
from scheduler.requests import LiveRequest
from scheduler.workers import DecodeWorker

ENCODING, READY, DECODING = RequestState.ENCODING, RequestState.READY, RequestState.DECODING
"""Looked up once: a member of an Enum takes longer to get at than to compare with."""


class Roster:
    """Requests from Submit to their end; those READY are also in `Admission`."""

    def __init__(
        self,
        directory: Directory,
        encodes: Encodes,
        admission: Admission,
        counters: dict[str, int],
        reasons: Reasons,
    ) -> None:
        self._directory = directory
        self._encodes = encodes
        self._admission = admission
        self._counters = counters
        self._reasons = reasons
        self.live: dict[RequestId, LiveRequest] = {}
        self.decoding = 0  # how many
        self.held = 0  # of these, by engines that are registered
        self.owed_output = 0  # tokens that live requests may still generate
        self.rejects: list[Reject] = []  # not yet handed out
        self._deadlines = Deadlines(self.live)

    @property
    def withheld(self) -> int:
        """Live requests that no live engine holds."""
        return len(self.live) - self.held

    def withheld_images(self) -> list[LiveRequest]:
        """Those with images that no decoder has been given."""
        return [request for request in self.live.values() if request.parts and request.state is not DECODING]

    def decoded_by(self, worker: WorkerId, request: RequestId) -> LiveRequest | None:
        """The request, if it decodes there, even if that engine is lost."""
        found = self.live.get(request)
        return found if found is not None and found.decoder is not None and found.decoder.id == worker else None

    # -- where it stands -----------------------------------------------------------------------------------------

    def enter(self, request: LiveRequest) -> None:
        """A request begins to live, ENCODING; its way is still to be found."""
        self.live[request.id] = request
        self._deadlines.add(request)
        self.owed_output += request.output_tokens

    def to_encoding(self, request: LiveRequest) -> None:
        """It lacks an embedding, or is on the way to another place."""
        self.leave(request)
        request.state = ENCODING

    def to_ready(self, request: LiveRequest) -> None:
        """It lacks nothing but a decoder."""
        if request.state is not ENCODING:
            self.leave(request)
        request.state = READY
        if request.parts:
            self.keep(request)
        self._admission.withhold(request)

    def to_decoding(self, request: LiveRequest, worker: DecodeWorker) -> None:
        """A worker is given a READY request, and books it."""
        if request.kept:
            self.unkeep(request)
        self._admission.withdraw(request)
        request.state = DECODING
        request.decoder = worker
        request.decodes += 1
        self.decoding += 1
        self.held += 1

    def leave(self, request: LiveRequest) -> None:
        """Takes a request from where it waits or decodes; another place, or its end, must follow."""
        decoder = request.decoder
        if decoder is not None:
            if decoder.registered:
                decoder.release(request.id)
                self.held -= 1
            request.decoder = None
            self.decoding -= 1
        elif request.state is READY:
            if request.kept:
                self.unkeep(request)
            self._admission.withdraw(request)

    def orphan(self, worker: DecodeWorker) -> None:
        """An engine is lost. Only their gateways know whether its requests delivered a token, so these must report."""
        self.held -= len(worker.running)
        for request in worker.running:
            self._reasons.note(request, "decoder lost", worker.id)

    def orphans_of(self, worker: WorkerId) -> list[LiveRequest]:
        """The requests that were handed to a worker of this name before it was lost, and have not been reported on."""
        handed = (one for one in self.live.values() if one.decoder is not None and one.decoder.id == worker)
        return [one for one in handed if one.decoder is not None and not one.decoder.registered]

    # -- its embeddings ------------------------------------------------------------------------------------------

    def keep(self, request: LiveRequest) -> None:
        """From now on it lacks nothing, and its embeddings must not be lost."""
        request.kept = True
        for part in request.parts.values():
            entry = part.entry
            if entry is not None:
                entry.ready += 1
                if entry.ready == 1:
                    self._encodes.keep(entry.worker, entry.nbytes)

    def unkeep(self, request: LiveRequest) -> None:
        """It lacks something, or needs them no longer."""
        if request.kept:
            request.kept = False
            for part in request.parts.values():
                entry = part.entry
                if entry is not None:
                    entry.ready -= 1
                    if entry.ready == 0:
                        self._encodes.keep(entry.worker, -entry.nbytes)

    def drop_embeddings(self, request: LiveRequest) -> None:
        """Ends the waits of a withheld request, and its use of what it has."""
        self.unkeep(request)
        for uuid, part in request.parts.items():
            if part.waiting:
                self._encodes.leave(request.id, uuid)
            elif part.entry is not None:
                self._directory.release(part.entry, request.id)
            part.waiting, part.entry = False, None
        request.waiting = 0

    # -- the ends ------------------------------------------------------------------------------------------------

    def finish(self, request: LiveRequest, output_tokens: int, seconds: float) -> None:
        """The answer is complete: so many tokens, so long after its post.

        Its decoder was given what embeddings it had, so it holds none.
        """
        if request.decoder is not None:
            request.decoder.learn(request.id, output_tokens, seconds)
        self._counters["done"] += 1
        self._end(request, RequestState.DONE)

    def cancel(self, request: LiveRequest) -> None:
        """The client left. The gateway drops what it has posted, which frees the credits now."""
        self._counters["cancelled"] += 1
        self.drop_embeddings(request)
        self._end(request, RequestState.CANCELLED)

    def fail(self, request: LiveRequest, reason: RejectReason, detail: str) -> None:
        """A named error. The gateway drops what it has posted, which frees the credits now."""
        self.drop_embeddings(request)
        self._end(request, RequestState.FAILED, f"{reason.value}: {detail}")
        self.reject(request.id, reason, detail)

    def reject(self, request: RequestId, reason: RejectReason, detail: str, retry: float | None = None) -> None:
        """Answers with a named error; `request` is not live, or no longer."""
        self._counters[f"{FAILED}{reason.value}"] += 1
        self.rejects.append(Reject(request, reason, detail, retry))

    def expire(self, now: float) -> None:
        """Ends every request whose deadline has passed."""
        for request in self._deadlines.missed(now):
            self.fail(request, RejectReason.DEADLINE, f"its deadline passed while it was {request.state}")

    def _end(self, request: LiveRequest, state: RequestState, detail: str = "") -> None:
        self._reasons.note(request.id, "ended", NOBODY, detail or state)
        self.leave(request)
        request.state = state
        self.owed_output -= request.output_tokens
        del self.live[request.id]

    # -- checks --------------------------------------------------------------------------------------------------

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
