"""Which spans a request's time is put down to."""

import pytest

from chiasm.telemetry.records import Phase
from chiasm.telemetry.timelines.spans import Span, with_self_seconds


def own(*spans: Span, began: float = 0.0, ended: float = 20.0) -> list[float]:
    return [span.self_seconds for span in with_self_seconds(spans, began, ended)]


def encode(began: float, ended: float, item: int = 0) -> Span:
    return Span(Phase.ENCODE, began, ended, item=item)


def wait(began: float, ended: float, item: int = 0) -> Span:
    return Span(Phase.ENCODE_QUEUE, began, ended, item=item)


def transfer(began: float, ended: float) -> Span:
    return Span(Phase.TRANSFER, began, ended)


def test_one_after_the_other_each_counts_whole() -> None:
    assert own(encode(0, 5), Span(Phase.PREFILL, 5, 8), Span(Phase.DECODE, 8, 20)) == [5, 3, 12]


def test_of_two_items_under_each_other_the_later_chain_counts() -> None:
    spans = wait(1, 3), encode(3, 9), wait(1, 6, item=1), encode(6, 12, item=1), Span(Phase.DECODE, 12, 20)
    assert own(*spans) == [0, 0, 5, 6, 8]


def test_nothing_is_put_down_to_a_gap() -> None:
    assert own(encode(2, 5), Span(Phase.DECODE, 7, 18)) == [3, 11]


def test_a_transfer_that_began_before_the_last_one_has_the_time_before_it() -> None:
    assert own(transfer(2, 8), transfer(6, 10), Span(Phase.PREFILL, 10, 20)) == [4, 4, 10]


def test_of_what_went_on_beyond_that_moment_the_first_to_end_has_it() -> None:
    assert own(transfer(2, 12), transfer(2, 9), transfer(8, 20)) == [0, 6, 12]


def test_work_is_preferred_to_a_wait_that_ended_with_it() -> None:
    assert own(wait(0, 10, item=1), encode(4, 10), encode(10, 20, item=1)) == [4, 6, 10]
    assert own(wait(6, 10, item=1), encode(4, 10), encode(10, 20, item=1)) == [0, 6, 10]


@pytest.mark.parametrize(("began", "ended"), [(5, 15), (-5, 5), (15, 30)])
def test_only_the_time_of_the_request_counts(began: float, ended: float) -> None:
    inside = min(ended, 20) - max(began, 0)
    assert own(encode(0, 20), began=began, ended=ended) == [inside]


def test_what_lies_beside_the_request_counts_nothing() -> None:
    assert own(encode(0, 4), encode(16, 20), Span(Phase.DECODE, 4, 9), began=5, ended=15) == [0, 0, 4]
    assert own(encode(0, 4), began=5, ended=15) == [0]
