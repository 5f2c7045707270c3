"""What follows from an event: whatever has a credit now is handed out.

Owns nothing but whether routes are to be chosen anew. Imports only `chiasm.nouns`, the standard library and its
neighbours.
"""

from chiasm.nouns import Role
from scheduler.admission import Admission
from scheduler.encodes import Encodes
from scheduler.events import Decision
from scheduler.lifecycle import Lifecycle
from scheduler.roster import Roster
from scheduler.routing import Routing
from scheduler.table import WorkerTable
from scheduler.thieving import Thieving
from scheduler.workers import DecodeWorker, EncodeWorker


class Dispatch:
    """The only place that hands out, after each event, so that no transition meets another one half-made."""

    def __init__(
        self,
        workers: WorkerTable,
        encodes: Encodes,
        admission: Admission,
        roster: Roster,
        routing: Routing,
        life: Lifecycle,
        thieving: Thieving,
    ) -> None:
        self._workers = workers
        self._changed = workers.decode_crews.changed
        self._encodes = encodes
        self._admission = admission
        self._roster = roster
        self._routing = routing
        self._life = life
        self._thieving = thieving
        self._reroute_due = False  # have workers come or gone that matter to where images go?

    def pools_changed(self, worker: EncodeWorker | DecodeWorker) -> None:
        """A worker has come or gone. Text-only ones, thieves among them, do not matter to where images go."""
        self._admission.wake()
        self._reroute_due |= worker.role is not Role.TEXT

    def settle(self, out: list[Decision]) -> None:
        """Adds all that can be done now."""
        if self._reroute_due:
            self._reroute(out)  # of which some may end
        if self._roster.rejects:
            out.extend(self._roster.rejects)
            self._roster.rejects.clear()
        if self._admission.due or self._changed or self._workers.both_live:
            self._hand_out_decodes(out)
        if self._encodes.due:  # after the decodes: they make room where encodes go
            self._hand_out_encodes(out)
        if self._thieving.thieves:
            while decisions := self._thieving.decisions():
                out.extend(decisions)
                self._hand_out_decodes(out)  # what was stolen may have kept others waiting
                self._hand_out_encodes(out)

    def _reroute(self, out: list[Decision]) -> None:
        """Sends image requests that wait for an arrangement that is gone, or not the better any more, the other way."""
        self._reroute_due = False
        if self._workers.both_live:
            for request in self._roster.withheld_images():
                if self._routing.choose_anew(request):
                    self._hand_out_decodes(out)  # so that the next one does not count on the same idle worker
        elif self._workers.split_lives:
            for request in self._admission.for_whole():
                self._routing.seek(request)
        elif self._workers.whole_lives:
            for waiter in self._encodes.stranded():
                self._routing.seek(self._roster.live[waiter])

    def _hand_out_decodes(self, out: list[Decision]) -> None:
        admission = self._admission
        if self._workers.both_live and (self._encodes.due or admission.wholes_wait):
            admission.wake()  # which way is sooner depends on encoders, and on all that waits
        if admission.due or self._changed:
            self._thieving.due = True
        while True:
            pick = admission.next()
            if pick is not None:
                request, worker, considered = pick
                out.append(self._life.hand_out(request, worker, considered))
                self._thieving.due = True
            elif admission.waits_for_whole is None or not self._routing.leaves_whole(admission.waits_for_whole):
                break

    def _hand_out_encodes(self, out: list[Decision]) -> None:
        out += self._encodes.hand_out()
        if self._thieving.thieves:
            self._thieving.mind(self._encodes.due)
        self._encodes.due.clear()

    def check_integrity(self) -> None:
        """Raises AssertionError where a request waits for a whole worker that should not."""
        waits = self._admission.waits_for_whole
        if waits is not None:
            assert self._routing.stays_whole(waits), f"{waits.id} waits for a whole worker, and is not asked"
