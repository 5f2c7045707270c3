"""Work stealing in action: holds thieves while an image is encoded, asks for what must return, hands out what pays.

Acts by the rules of `scheduler.stealing`. Imports only `chiasm.{nouns,messages}` and its neighbours.
"""

from collections.abc import Iterable

from chiasm.messages import Decode, Pause, Resume, Return, ThiefStatus
from chiasm.nouns import RequestId, RequestState
from scheduler.admission import Admission
from scheduler.clock import Clock
from scheduler.lifecycle import Lifecycle
from scheduler.reasons import Reasons
from scheduler.requests import LiveRequest
from scheduler.roster import Roster
from scheduler.stealing import Mode, Stealing, Theft, Thief
from scheduler.table import WorkerTable
from scheduler.victims import Victims
from scheduler.workers import DecodeWorker, EncodeWorker


class Thieving:
    """The thieves of a core."""

    def __init__(
        self,
        mode: Mode,
        itl_slo_s: float,
        workers: WorkerTable,
        admission: Admission,
        roster: Roster,
        life: Lifecycle,
        counters: dict[str, int],
        reasons: Reasons,
        clock: Clock,
    ) -> None:
        self._clock = clock
        self._mode = mode
        self._stealing = Stealing(mode, workers.encoders, itl_slo_s, clock)
        self._given_back: list[LiveRequest] = []  # and those that wait for a decoder among them
        self.thieves = self._stealing.thieves
        self._workers = workers
        self._admission = admission
        self._roster = roster
        self._life = life
        self._counters = counters
        self._reasons = reasons
        self._out: list[Pause | Resume | Return | Decode] = []
        self.due = False  # has anything changed since nothing was worth stealing?

    def add(self, worker: DecodeWorker) -> None:
        """A thief has registered."""
        if self._mode != "off":
            encoder = self._workers.encoders.get(worker.host)
            thief = self._stealing.add(worker, self._roster.orphans_of(worker.id))
            if encoder is not None:
                self._mind(encoder, thief, busy=bool(encoder.running))
            self.due = True

    def remove(self, worker: DecodeWorker) -> None:
        """A thief is lost."""
        self._stealing.remove(worker)
        self._out = [one for one in self._out if one.worker != worker.id]

    def tick(self) -> None:
        """Time has passed: pauses may have become too long, and somebody's patience may be over."""
        for thief in list(self._stealing.paused.values()):
            # What is being encoded was counted whole when it began: not again, beside the time that it has taken since.
            self._return_overdue(thief, still_s=0.0)
        self._stealing.tick()
        self.due = True

    def returns(self, request: LiveRequest) -> bool:
        """May it be given back by whom it decodes at? A thief that was asked to, and one that has been lost since.

        Of what a lost one held, that is all that its gateway still reports if it was asked before.
        """
        decoder = request.decoder
        if decoder is None:
            return False
        thief = self.thieves.get(decoder.host)
        return not decoder.registered or (thief is not None and request.id in thief.returning)

    def mind(self, encoders: Iterable[EncodeWorker]) -> None:
        """The image goes first: holds the thieves on the cards of encoders while these encode."""
        for encoder in encoders:
            thief = self.thieves.get(encoder.id)
            if thief is not None:
                self._mind(encoder, thief, busy=bool(encoder.running))

    def _mind(self, encoder: EncodeWorker, thief: Thief, busy: bool) -> None:
        if busy != thief.busy:
            thief.observe(busy, self._clock.now)
            if busy and thief.holds() and self._mode == "yield":
                self._counters["paused"] += 1
                self._stealing.preempted(thief)
                self._out.append(Pause(thief.worker.id))
            elif not busy:
                thief.idle_since = self._clock.now
                if thief.paused_at is not None:
                    self._stealing.resumed(thief)
                    self._out.append(Resume(thief.worker.id))
            self._stealing.update(thief)
            self.due = True
        self._return_overdue(thief, encoder.owed / encoder.rate.tokens_per_s)

    def decisions(self) -> list[Pause | Resume | Return | Decode]:
        """What follows from all that, and the queued text that idle encoders' cards take now."""
        for worker in self._workers.thief_crew.changed:
            thief = self.thieves.get(worker.host)
            if thief is not None and thief.worker is worker:
                self._stealing.update(thief)
                self.due = True
        self._workers.thief_crew.changed.clear()
        if self.due:
            self._steal()
        out, self._out = self._out, []
        return out

    def _return_overdue(self, thief: Thief, still_s: float) -> None:
        """Asks for what a decoder would be as far with sooner than its pause ends, if that is beyond the objective.

        What returns to full decoders waits for a credit there, and others wait behind it; then it is prefilled again,
        or all of it generated again. A pause may last longer than is foreseen, but a stream stalls at most about twice
        as long as it would have by the better choice.
        """
        stall_s = self._stealing.stall_s(thief, still_s)
        if not stall_s:
            return
        self._given_back = [request for request in self._given_back if request.state is RequestState.READY]
        ahead = len(self._given_back) + sum(len(each.returning) for each in self.thieves.values())
        victims = self._victims()
        prompt_rate = self._workers.encoders[thief.worker.host].rate.tokens_per_s  # it is there: it holds the thief
        asked: list[RequestId] = []
        for request in self._held_by(thief):
            place = ahead + len(asked)
            turn_s = victims.turn_s(place, self._admission.credits_for(request, place + 1), self._clock.now)
            if turn_s >= stall_s:
                break
            again_s = victims.again_s(request, self._stealing.made(request, thief), prompt_rate)
            if turn_s + again_s < stall_s:
                asked.append(request.id)
                self._reasons.note(request.id, "asked back", thief.worker.id, "", (stall_s, turn_s, again_s))
        if asked:
            self._out.extend(Return(request, thief.worker.id) for request in asked)
            thief.returning.update(asked)
            self._stealing.update(thief)

    def _held_by(self, thief: Thief) -> list[LiveRequest]:
        """What it runs and has not been asked for, in the order in which it was taken."""
        live = self._roster.live
        return [live[request] for request in thief.holds() if request in live and request not in thief.returning]

    def gave_back(self, request: LiveRequest) -> None:
        """A request has come back, for a decoder."""
        self._given_back.append(request)

    def _victims(self) -> Victims:
        crews = self._workers.decode_crews
        return Victims(crews, crews.owed + self._admission.output)

    def _steal(self) -> None:
        self.due = False
        while self._stealing.anybody(victims := self._victims()):
            theft = self._stealing.best(self._candidates(victims), victims)
            if theft is None:
                return
            self._counters["stolen"] += 1
            self._note(theft, victims)
            self._out.append(self._life.hand_out(theft.request, theft.thief.worker))
            self._stealing.update(theft.thief)

    def _note(self, theft: Theft, victims: Victims) -> None:
        request, worker = theft.request, theft.thief.worker
        itl_s = worker.next_itl_s
        if victims.live:
            numbers = theft.gain_s, victims.wait_s, request.output_tokens, itl_s, victims.itl_s, theft.pauses_s
            self._reasons.note(request.id, "stolen", worker.id, "", numbers)
        else:
            self._reasons.note(request.id, "only thieves", worker.id, "", (itl_s,))

    def _candidates(self, victims: Victims) -> list[LiveRequest]:
        return self._admission.waits_longest() if victims.live else self._admission.first_stealable()

    def statuses(self) -> tuple[ThiefStatus, ...]:
        """What decides about each thief."""
        victims, now = self._victims(), self._clock.now
        return tuple(
            ThiefStatus(
                thief.worker.id,
                thief.paused_at is not None,
                thief.busy_share(now),
                self._stealing.patience_s(thief),
                victims.cap(thief.worker),
            )
            for thief in self.thieves.values()
        )

    def check_integrity(self) -> None:
        """Raises AssertionError where the thieves are out of order."""
        victims = self._victims()
        self._stealing.check_integrity(self._candidates(victims), victims)
