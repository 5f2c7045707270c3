"""Which requests a gateway can tell the course of: those under way, and the latest that have ended."""

from collections import OrderedDict

from chiasm.nouns import RequestId
from chiasm.telemetry.marks import Marks


class Timelines:
    """The marks of the requests under way, and of those that ended last, `limit` at most; with 0 of none at all.

    `whole_since`: of those that ended before then (unix seconds), some are forgotten.
    """

    def __init__(self, limit: int) -> None:
        self.whole_since = 0.0
        self._limit = limit
        self._under_way: dict[RequestId, Marks] = {}
        self._ended: OrderedDict[RequestId, Marks] = OrderedDict()

    def add(self, marks: Marks) -> None:
        """One more, under way. It is to be `ended`."""
        if self._limit:
            self._under_way[marks.request] = marks

    def ended(self, request: RequestId) -> None:
        """It has ended, if it was ever added."""
        if (marks := self._under_way.pop(request, None)) is None:
            return
        self._ended[request] = marks
        if len(self._ended) > self._limit:
            _, forgotten = self._ended.popitem(last=False)
            assert forgotten.ended_at is not None
            self.whole_since = max(self.whole_since, forgotten.ended_at)

    def all(self) -> list[Marks]:
        """Of every request that is remembered: those that have ended, in that order, and then those under way."""
        return [*self._ended.values(), *self._under_way.values()]

    def get(self, request: RequestId) -> Marks | None:
        """Those of `request`; None of one that is unknown or forgotten."""
        return self._under_way.get(request) or self._ended.get(request)
