from chiasm.messages import Submit
from chiasm.nouns import RequestId
from scheduler.deadlines import Deadlines
from scheduler.requests import LiveRequest, live_request


def request(arrival: int, deadline: float, name: str = "") -> LiveRequest:
    return live_request(Submit(RequestId(name or f"r{arrival}"), (), 1, 1, deadline), arrival, now=0.0)


def test_each_is_missed_once_in_order_and_not_if_it_has_ended() -> None:
    live: dict[RequestId, LiveRequest] = {}
    deadlines = Deadlines(live)
    for arrival, deadline in enumerate((3.0, 1.0, 2.0, 9.0)):
        one = request(arrival, deadline)
        live[one.id] = one
        deadlines.add(one)
    del live[RequestId("r2")]
    live[RequestId("r2")] = request(7, 5.0, "r2")  # of the same name, and another
    deadlines.add(live[RequestId("r2")])
    missed = list(deadlines.missed(3.0))
    assert [one.arrival for one in missed] == [1, 0]
    for one in missed:
        del live[one.id]
    deadlines.check_integrity()
    assert [one.arrival for one in deadlines.missed(5.0)] == [7]
    assert list(deadlines.missed(5.0)) == []


def test_those_of_ended_requests_do_not_pile_up() -> None:
    live: dict[RequestId, LiveRequest] = {}
    deadlines = Deadlines(live)
    for arrival in range(1000):
        one = request(arrival, 60.0)
        live[one.id] = one
        deadlines.add(one)
        if arrival:
            del live[one.id]
        deadlines.check_integrity()
    assert len(deadlines._heap) < 20
