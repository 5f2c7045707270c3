"""Why each decision about the latest requests was taken, with the numbers that decided.

Owns the notes, and decides nothing: the core would act the same without it. Imports only `chiasm.{nouns,messages}`,
the standard library and `scheduler.clock`.
"""

from collections import OrderedDict
from collections.abc import Sequence
from typing import TYPE_CHECKING

from chiasm.messages import NOBODY, Reason
from chiasm.nouns import RequestId, WorkerId
from scheduler.clock import Clock

if TYPE_CHECKING:
    from scheduler.workers import Worker

NOTES = 64  # about one request: beyond, only its end is noted

NUMBERS: dict[str, tuple[str, ...]] = {
    "admitted": ("ahead", "items", "tokens", "output_tokens", "weight"),
    "goes whole": ("split_s", "encode_s", "whole_s", "stall_s"),
    "goes split": ("split_s", "encode_s", "whole_s", "stall_s"),
    "spares streams": ("split_s", "encode_s", "whole_s", "stall_s", "limit_s"),
    "encode placed": ("owed", "tokens", "tokens_per_s"),
    "encoded": ("tokens",),
    "encode failed": ("attempt",),
    "decode posted": ("owed", "tokens", "tokens_per_s", "kv_tokens", "room", "running"),
    "stolen": ("gain_s", "wait_s", "tokens", "itl_s", "victims_itl_s", "pauses_s"),
    "only thieves": ("itl_s",),
    "asked back": ("stall_s", "turn_s", "again_s"),
    "returned": ("done",),
    "decode failed": ("attempt",),
}
"""What the numbers of a note are called, by what the note says; every other note has none."""

Considered = Sequence[tuple[float, int, "Worker"]]
"""Workers that were looked at (`finish_index.Candidate`)."""

Note = tuple[float, str, WorkerId, str, tuple[float, ...], Considered]


class Reasons:
    """Notes about the `limit` requests that came last, each in the order of events.

    Hardly any is ever read, so they are kept as they come and put into words and names when somebody asks.
    """

    def __init__(self, limit: int, clock: Clock) -> None:
        self._clock = clock
        self._limit = limit
        self._notes: OrderedDict[RequestId, list[Note]] = OrderedDict()

    def admitted(self, request: RequestId, numbers: tuple[float, ...]) -> None:
        """The first note about a request. One of the same id is forgotten."""
        notes = self._notes
        if request in notes:
            del notes[request]
        notes[request] = [(self._clock.now, "admitted", NOBODY, "", numbers, ())]
        if len(notes) > self._limit:
            notes.popitem(last=False)

    def note(
        self,
        request: RequestId,
        what: str,
        worker: WorkerId = NOBODY,
        detail: str = "",
        numbers: tuple[float, ...] = (),
        considered: Considered = (),
    ) -> None:
        """One decision, or one event that led to others.

        `numbers` are named by `NUMBERS`; `considered` are the workers that `worker` was chosen from.
        """
        notes = self._notes.get(request)
        if notes is not None and (len(notes) < NOTES or what == "ended"):
            notes.append((self._clock.now, what, worker, detail, numbers, considered))

    def of(self, request: RequestId) -> tuple[Reason, ...]:
        """What is noted about a request, oldest first; empty if nothing is known of it."""
        return tuple(map(_reason, self._notes.get(request, ())))


def _reason(note: Note) -> Reason:
    now, what, worker, detail, numbers, considered = note
    others = tuple((other.id, finish) for finish, _, other in considered if other.id != worker)
    return Reason(now, what, worker, detail, dict(zip(NUMBERS.get(what, ()), numbers, strict=True)), others)
