"""What waits, in order of a number, with removal from anywhere.

Owns the heap behind every queue of the core and behind the deadlines. Imports only the standard library.
"""

from heapq import heapify, heappop, heappush
from typing import Generic, Protocol, TypeVar


class Arrived(Protocol):
    """Something with a place in the order of all arrivals, of which no other has the same."""

    @property
    def arrival(self) -> int:
        """That place."""
        ...


T = TypeVar("T", bound=Arrived)


class PriorityQueue(Generic[T]):
    """Members by priority, smallest first; equal ones by arrival. Every operation is O(log n), amortised.

    A removed member leaves its place in the heap behind, which is cleared away when it surfaces, or when such places
    outnumber the members: the heap never outgrows twice its members for longer than one operation.
    """

    def __init__(self) -> None:
        self._heap: list[tuple[float, int]] = []
        self._members: dict[int, tuple[float, T]] = {}

    def __len__(self) -> int:
        return len(self._members)

    def __contains__(self, member: T) -> bool:
        return member.arrival in self._members

    def push(self, member: T, priority: float) -> None:
        """Enters a member, always under the same priority should it come again."""
        self._members[member.arrival] = (priority, member)
        heappush(self._heap, (priority, member.arrival))

    def remove(self, member: T) -> None:
        """Takes out a member."""
        del self._members[member.arrival]
        if len(self._heap) > 2 * len(self._members) + 8:
            self._heap = [(priority, arrival) for arrival, (priority, _) in self._members.items()]
            heapify(self._heap)

    def first(self) -> T | None:
        """The member of the smallest priority."""
        heap, members = self._heap, self._members
        while heap:
            member = members.get(heap[0][1])
            if member is not None:
                return member[1]
            heappop(heap)
        return None

    def first_few(self, number: int) -> list[T]:
        """The first so many members, in order."""
        found: list[T] = []
        places = []
        while len(found) < number and (member := self.first()) is not None:
            places.append(heappop(self._heap))
            found.append(member)
        for place in places:
            heappush(self._heap, place)
        return found

    def unordered(self) -> list[T]:
        """All members, in the order in which they were entered."""
        return [member for _, member in self._members.values()]

    def check_integrity(self) -> None:
        """Raises AssertionError where a member is missing from the heap or the heap is over its bound."""
        assert self._members.keys() <= {arrival for _, arrival in self._heap}, "a member is not in the heap"
        assert len(self._heap) <= 2 * len(self._members) + 8, "the heap keeps too many places of removed members"
