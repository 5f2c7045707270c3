"""What waits or may be chosen, in order of a number, with removal from anywhere.

Owns the heap behind every queue of the core and behind its orders of workers. Imports only the standard library.
"""

from collections.abc import Callable
from heapq import heapify, heappop, heappush
from typing import Generic, Protocol, TypeVar


class Arrived(Protocol):
    """Something with a place in the order of all arrivals, of which no other of its kind has the same."""

    @property
    def arrival(self) -> int:
        """That place."""
        ...


T = TypeVar("T", bound=Arrived)

Places = dict[int, tuple[float, int, T]]
"""The place of each member in its heap: its priority, its arrival and itself; by arrival."""


class PriorityQueue(Generic[T]):
    """Members by priority, smallest first; equal ones by arrival. Every operation is O(log n), amortised.

    `first` is the member of the smallest priority, None where there is no member.

    A member that moves or leaves stays behind in the heap, and is cleared away when it surfaces, or when such places
    outnumber the members: the heap never outgrows twice its members for longer than one operation.

    Queues that are given the same `places` share these members: who enters one leaves the others, and that must be
    said to the one that it was in (`left`).
    """

    def __init__(self, places: Places[T] | None = None) -> None:
        self.first: T | None = None
        self._heap: list[tuple[float, int, T]] = []  # its top is a member's place, not one that was left
        self._places: Places[T] = {} if places is None else places

    def __len__(self) -> int:
        return len(self._places)

    def __contains__(self, member: T) -> bool:
        return member.arrival in self._places

    def put(self, member: T, priority: float) -> None:
        """Enters a member, or moves it."""
        heap, places, arrival = self._heap, self._places, member.arrival
        places[arrival] = place = priority, arrival, member
        heappush(heap, place)
        if heap[0] is place:
            self.first = member
        elif self.first is member:
            self._first_left()
        if len(heap) > 2 * len(places) + 8:
            self._clear_away()

    def discard(self, member: T) -> None:
        """Takes a member out, if it is in."""
        heap, places = self._heap, self._places
        places.pop(member.arrival, None)
        if not places:
            heap.clear()
            self.first = None
            return
        if self.first is member:
            self._first_left()
        if len(heap) > 2 * len(places) + 8:
            self._clear_away()

    def left(self, member: T) -> None:
        """A member of shared places has gone elsewhere, or out of them."""
        if self.first is member:
            self._first_left()
        if len(self._heap) > 2 * len(self._places) + 8:
            self._clear_away()

    def _first_left(self) -> None:
        """The first has got another place, or none: what is on top of the heap is void, and the next one is sought."""
        heap, places = self._heap, self._places
        heappop(heap)
        while heap:
            place = heap[0]
            if places.get(place[1]) is place:
                self.first = place[2]
                return
            heappop(heap)
        self.first = None

    def first_few(self, number: int) -> list[T]:
        """The first so many members, in order."""
        found: list[T] = []

        def leave_it(member: T) -> bool:
            found.append(member)
            return False

        self.first_that(leave_it, number)
        return found

    def first_that(self, fits: Callable[[T], bool], among: int) -> T | None:
        """The first member that fits, if it is one of the first so many."""
        heap, places = self._heap, self._places
        found = None
        aside: list[tuple[float, int, T]] = []
        while heap and len(aside) < among:
            place = heap[0]
            if places.get(place[1]) is not place:
                heappop(heap)
            elif fits(place[2]):
                found = place[2]
                break
            else:
                aside.append(heappop(heap))
        for place in aside:
            heappush(heap, place)
        return found

    def unordered(self) -> list[T]:
        """All members, in the order in which they were entered."""
        return [member for _, _, member in self._places.values()]

    def _clear_away(self) -> None:
        self._heap = self.own()
        heapify(self._heap)

    def check_integrity(self) -> None:
        """Raises AssertionError where a member is missing from the heap or the heap is over its bound."""
        assert len(self.own()) == len(self._places), "a member is not in the heap"
        assert len(self._heap) <= 2 * len(self._places) + 8, "the heap keeps too many places of removed members"
        self.check_first()

    def check_first(self) -> None:
        """Raises AssertionError where `first` is another one."""
        first = min(self.own(), default=None)
        assert self.first is (first[2] if first else None), "the first is another"

    def own(self) -> list[tuple[float, int, T]]:
        """The places in this heap that are a member's, in no order."""
        return [place for place in self._heap if self._places.get(place[1]) is place]
