"""Which requests a gateway can still tell the course of: the latest, and those under way among them."""

from collections import OrderedDict

from chiasm.nouns import RequestId
from chiasm.telemetry.marks import Marks


class Timelines:
    """The marks of the requests that were submitted last, `limit` at most.

    `whole_since`: of those that ended before then (unix seconds), some are forgotten.
    """

    def __init__(self, limit: int) -> None:
        self.whole_since = 0.0
        self._limit = limit
        self._marks: OrderedDict[RequestId, Marks] = OrderedDict()

    def add(self, marks: Marks) -> None:
        """One more, the latest. It may still be under way."""
        self._marks[marks.request] = marks
        if len(self._marks) > self._limit:
            _, forgotten = self._marks.popitem(last=False)
            self.whole_since = max(self.whole_since, forgotten.ended_at or forgotten.arrived_at)

    def all(self) -> list[Marks]:
        """Of every request that is remembered, in the order in which they were submitted."""
        return list(self._marks.values())

    def get(self, request: RequestId) -> Marks | None:
        """Those of `request`; None of one that is unknown or forgotten."""
        return self._marks.get(request)
