"""Which way a request with images goes: through encoders and a decoder, or to a whole worker.

Sends it there, and looks for the embeddings that it lacks. What is better is for `scheduler.split_or_stay` to say.
Imports only `chiasm.{nouns,messages}`, the standard library and its neighbours.
"""

from chiasm.messages import RejectReason
from chiasm.nouns import RequestState
from scheduler.directory import Directory
from scheduler.encodes import Encodes
from scheduler.reasons import Reasons
from scheduler.requests import LiveRequest
from scheduler.roster import Roster
from scheduler.split_or_stay import SplitOrStay
from scheduler.table import WorkerTable


class Routing:
    """Sends withheld requests on their way. An item is encoded at most `max_attempts` times for one of them."""

    def __init__(
        self,
        max_attempts: int,
        workers: WorkerTable,
        directory: Directory,
        encodes: Encodes,
        roster: Roster,
        split_or_stay: SplitOrStay,
        counters: dict[str, int],
        reasons: Reasons,
    ) -> None:
        self._max_attempts = max_attempts
        self._workers = workers
        self._directory = directory
        self._encodes = encodes
        self._roster = roster
        self._split_or_stay = split_or_stay
        self._counters = counters
        self._reasons = reasons

    def seek(self, request: LiveRequest) -> None:
        """Looks for the embeddings that a request lacks: READY with all of them, ENCODING while it waits for some."""
        if not request.parts:
            self._roster.to_ready(request)
        elif self._workers.prefers_whole:
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
        return self._roster.owed_output - held - (0 if holds_it else request.output_tokens)

    def _go_whole(self, request: LiveRequest) -> None:
        if not request.whole:
            self._roster.to_encoding(request)  # out of its lane
            self._roster.drop_embeddings(request)
            request.whole = True
        if request.state is not RequestState.READY:
            self._roster.to_ready(request)

    def _go_split(self, request: LiveRequest) -> None:
        if request.whole:
            self._roster.to_encoding(request)
            request.whole = False
        self._roster.unkeep(request)
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
                if part.known and uuid not in self._encodes:
                    self._counters["reencodes"] += 1
                self._encodes.want(request.id, part.item, request.tag)
                part.waiting = True
                request.waiting += 1
            else:
                self._roster.fail(request, RejectReason.ATTEMPTS, f"the embedding of item {uuid} was lost too often")
                return
        if request.waiting:
            if request.state is not RequestState.ENCODING:
                self._roster.to_encoding(request)
        elif request.state is not RequestState.READY:
            self._roster.to_ready(request)
        else:
            self._roster.keep(request)
