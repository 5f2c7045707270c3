from hypothesis import given, settings
from hypothesis import strategies as st

from chiasm.messages import Submit
from chiasm.nouns import RequestId
from scheduler.ordering import PriorityQueue
from scheduler.requests import LiveRequest


def request(arrival: int) -> LiveRequest:
    return LiveRequest.of(Submit(RequestId(f"r{arrival}"), (), 1, 1, 60.0), arrival, now=0.0)


def test_the_smallest_priority_comes_first_and_the_older_of_equals() -> None:
    heap = PriorityQueue()
    for arrival, priority in ((1, 5.0), (2, 3.0), (3, 3.0)):
        heap.push(request(arrival), priority)
    first = heap.first()
    assert first is not None
    assert first.id == "r2"


def test_removed_requests_do_not_pile_up_behind_one_that_stays() -> None:
    heap = PriorityQueue()
    heap.push(request(0), 0)
    for arrival in range(1, 100):
        heap.push(last := request(arrival), arrival)
        heap.remove(last)
        heap.check_integrity()
    assert len(heap) == 1


@settings(deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.integers(0, 5)), max_size=200))
def test_it_agrees_with_a_sorted_list_and_stays_small(steps: list[tuple[bool, int]]) -> None:
    heap, known, requests = PriorityQueue(), set[int](), [request(arrival) for arrival in range(6)]
    for enter, arrival in steps:
        if enter and arrival not in known:
            heap.push(requests[arrival], arrival)
            known.add(arrival)
        elif not enter and arrival in known:
            heap.remove(requests[arrival])
            known.remove(arrival)
        first = heap.first() if enter else None  # asks only now and then, so that removed places pile up between
        assert first is (requests[min(known)] if enter and known else None)
        assert len(heap) == len(known)
        heap.check_integrity()
