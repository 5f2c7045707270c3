"""Live requests in order of a number, with removal from anywhere.

Owns the heap behind the queue of withheld requests and behind the deadlines. Imports only the standard library and
`scheduler.requests`.
"""

from heapq import heapify, heappop, heappush

from scheduler.requests import LiveRequest


class RequestHeap:
    """Requests by priority, smallest first; equal ones by arrival. Every operation is O(log n), amortised.

    A removed request leaves its place in the heap behind, which is cleared away when it surfaces, or when such places
    outnumber the requests: the heap never outgrows twice its requests for longer than one operation.
    """

    def __init__(self) -> None:
        self._heap: list[tuple[float, int]] = []
        self._members: dict[int, tuple[float, LiveRequest]] = {}

    def __len__(self) -> int:
        return len(self._members)

    def __contains__(self, request: LiveRequest) -> bool:
        return request.arrival in self._members

    def push(self, request: LiveRequest, priority: float) -> None:
        """Enters a request, always under the same priority should it come again."""
        self._members[request.arrival] = (priority, request)
        heappush(self._heap, (priority, request.arrival))

    def remove(self, request: LiveRequest) -> None:
        """Takes out a request that is in."""
        del self._members[request.arrival]
        self._compact()

    def first(self) -> LiveRequest | None:
        """The request of the smallest priority."""
        while self._heap:
            member = self._members.get(self._heap[0][1])
            if member is not None:
                return member[1]
            heappop(self._heap)
        return None

    def unordered(self) -> list[LiveRequest]:
        """All requests, in the order in which they were entered."""
        return [request for _, request in self._members.values()]

    def _compact(self) -> None:
        if len(self._heap) > 2 * len(self._members) + 8:
            self._heap = [(priority, arrival) for arrival, (priority, _) in self._members.items()]
            heapify(self._heap)

    def check_integrity(self) -> None:
        """Raises AssertionError where a request is missing from the heap or the heap is over its bound."""
        assert self._members.keys() <= {arrival for _, arrival in self._heap}, "a request is not in the heap"
        assert len(self._heap) <= 2 * len(self._members) + 8, "the heap keeps too many places of removed requests"
