"""Why each decision about the latest requests was taken, with the numbers that decided.

Owns the notes, and decides nothing: the core would act the same without it. Imports only `chiasm.{nouns,messages}`
and the standard library.
"""

from collections.abc import Iterable
from typing import TYPE_CHECKING

from chiasm.messages import NOBODY, Reason
from chiasm.nouns import RequestId, WorkerId

if TYPE_CHECKING:
    from scheduler.workers import Worker

NOTES = 64  # about one request: beyond, only its end is noted


class Reasons:
    """Notes about the `limit` requests that came last, each in the order of events.

    `now` is the core's time, kept up by the core.
    """

    def __init__(self, limit: int) -> None:
        self.now = 0.0
        self._limit = limit
        self._notes: dict[RequestId, list[Reason]] = {}

    def open(self, request: RequestId) -> None:
        """A request has come. One of the same id is forgotten."""
        self._notes.pop(request, None)
        self._notes[request] = []
        if len(self._notes) > self._limit:
            del self._notes[next(iter(self._notes))]

    def note(
        self,
        request: RequestId,
        what: str,
        worker: WorkerId = NOBODY,
        detail: str = "",
        others: Iterable[tuple[WorkerId, float]] = (),
        **numbers: float,
    ) -> None:
        """One decision, or one event that led to others.

        `others` are the workers that were considered beside `worker`, with their predicted finish in seconds.
        """
        notes = self._notes.get(request)
        if notes is not None and (len(notes) < NOTES or what == "ended"):
            notes.append(Reason(self.now, what, worker, detail, numbers, tuple(others)))

    def of(self, request: RequestId) -> tuple[Reason, ...]:
        """What is noted about a request, oldest first; empty if nothing is known of it."""
        return tuple(self._notes.get(request, ()))


def beside(chosen: "Worker", considered: Iterable[tuple["Worker", float]]) -> list[tuple[WorkerId, float]]:
    """The others that a search looked at, as a note has them."""
    return [(worker.id, finish) for worker, finish in considered if worker is not chosen]
