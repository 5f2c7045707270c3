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

    A member that moves or leaves stays behind in the heap, and is cleared away when it surfaces, or when such places
    outnumber the members: the heap never outgrows twice its members for longer than one operation.

    Queues that are given the same `places` share these members: who enters one leaves the others. `places` may be read:
    it is empty exactly where the queue is, and asked sooner.
    """

    def __init__(self, places: Places[T] | None = None) -> None:
        self._heap: list[tuple[float, int, T]] = []
        self.places: Places[T] = {} if places is None else places

    def __len__(self) -> int:
        return len(self.places)

    def __contains__(self, member: T) -> bool:
        return member.arrival in self.places

    def put(self, member: T, priority: float) -> bool:
        """Enters a member, or moves it. Returns whether it is the first now."""
        heap, places, arrival = self._heap, self.places, member.arrival
        places[arrival] = place = priority, arrival, member
        heappush(heap, place)
        if len(heap) > 2 * len(places) + 8:
            self._clear_away()
            heap = self._heap
        first = heap[0]
        return first is place or (places.get(first[1]) is not first and self.first() is member)

    def discard(self, member: T) -> None:
        """Takes a member out, if it is in."""
        self.places.pop(member.arrival, None)
        if len(self._heap) > 2 * len(self.places) + 8:
            self._clear_away()

    def first(self) -> T | None:
        """The member of the smallest priority."""
        heap, places = self._heap, self.places
        while heap:
            place = heap[0]
            if places.get(place[1]) is place:
                return place[2]
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

    def first_that(self, fits: Callable[[T], bool], among: int) -> T | None:
        """The first member that fits, if it is one of the first so many."""
        found = None
        aside: list[tuple[float, int, T]] = []
        while len(aside) < among and (member := self.first()) is not None:
            if fits(member):
                found = member
                break
            aside.append(heappop(self._heap))
        for place in aside:
            heappush(self._heap, place)
        return found

    def unordered(self) -> list[T]:
        """All members, in the order in which they were entered."""
        return [member for _, _, member in self.places.values()]

    def _clear_away(self) -> None:
        places = self.places
        self._heap = [place for place in self._heap if places.get(place[1]) is place]
        heapify(self._heap)

    def check_integrity(self) -> None:
        """Raises AssertionError where a member is missing from the heap or the heap is over its bound."""
        places = set(map(id, self._heap))
        assert all(id(place) in places for place in self.places.values()), "a member is not in the heap"
        assert len(self._heap) <= 2 * len(self.places) + 8, "the heap keeps too many places of removed members"
