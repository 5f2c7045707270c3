from hypothesis import given, settings
from hypothesis import strategies as st

from chiasm.messages import Submit
from chiasm.nouns import RequestId
from scheduler.ordering import PriorityQueue
from scheduler.requests import LiveRequest, live_request


def request(arrival: int) -> LiveRequest:
    return live_request(Submit(RequestId(f"r{arrival}"), (), 1, 1, 60.0), arrival, now=0.0)


def test_the_smallest_priority_comes_first_and_the_older_of_equals() -> None:
    heap = PriorityQueue()
    for arrival, priority in ((1, 5.0), (2, 3.0), (3, 3.0)):
        heap.put(request(arrival), priority)
    first = heap.first
    assert first is not None
    assert first.id == "r2"


def test_removed_requests_do_not_pile_up_behind_one_that_stays() -> None:
    heap = PriorityQueue()
    heap.put(request(0), 0)
    for arrival in range(1, 100):
        heap.put(last := request(arrival), arrival)
        heap.discard(last)
        heap.check_integrity()
    assert len(heap) == 1


@settings(deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.integers(0, 5), st.integers(0, 50)), max_size=200))
def test_it_agrees_with_a_sorted_list_and_stays_small(steps: list[tuple[bool, int, int]]) -> None:
    heap, known, requests = PriorityQueue[LiveRequest](), dict[int, int](), [request(arrival) for arrival in range(6)]
    for enter, arrival, priority in steps:
        if enter:
            heap.put(requests[arrival], priority)  # which moves it if it is in
            known[arrival] = priority
        else:
            heap.discard(requests[arrival])
            known.pop(arrival, None)
        assert len(heap) == len(known)
        heap.check_integrity()
        if not enter:
            continue  # asks only now and then, so that places which are not valid any more pile up between
        order = sorted(known, key=lambda arrival: (known[arrival], arrival))
        first = heap.first
        assert first is not None
        assert first.arrival == order[0]
        assert [one.arrival for one in heap.first_few(4)] == order[:4]
        fitting = heap.first_that(lambda one: one.arrival % 2 == 1, among=3)
        assert (fitting and fitting.arrival) == next((one for one in order[:3] if one % 2), None)
