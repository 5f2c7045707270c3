"""By when each live request must have ended.

Owns the order of deadlines. Imports only `chiasm.nouns`, the standard library and `scheduler.requests`.
"""

from collections.abc import Iterator, Mapping
from heapq import heapify, heappop, heappush

from chiasm.nouns import RequestId
from scheduler.requests import LiveRequest


class Deadlines:
    """The deadlines of `live` requests.

    Nearly all requests end before theirs, so nothing is done then: such a deadline is cleared away when its time comes,
    or when they outnumber the others.
    """

    def __init__(self, live: Mapping[RequestId, LiveRequest]) -> None:
        self._live = live
        self._heap: list[tuple[float, int, LiveRequest]] = []

    def add(self, request: LiveRequest) -> None:
        """A request has come to live."""
        heappush(self._heap, (request.deadline, request.arrival, request))
        if len(self._heap) > 2 * len(self._live) + 8:
            self._heap = [(one.deadline, one.arrival, one) for one in self._live.values()]
            heapify(self._heap)

    def missed(self, now: float) -> Iterator[LiveRequest]:
        """The live requests whose deadline has passed, soonest first; none of them a second time."""
        while self._heap and self._heap[0][0] <= now:
            request = heappop(self._heap)[2]
            if self._live.get(request.id) is request:
                yield request

    def check_integrity(self) -> None:
        """Raises AssertionError where a live request has no deadline."""
        kept = {request for _, _, request in self._heap}
        assert kept >= set(self._live.values()), "a request without a deadline"
