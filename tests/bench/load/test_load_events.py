"""Events come whole, however the bytes were cut."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.load.events import Splitter

STREAM = (
    b": a comment\n\ndata: one\n\n"
    b"data:without a space\r\n\r\n"
    b"event: error\nid: 7\ndata: first\ndata:  second\n\n"
    + "data: \u2028 \u0085 größer\n\n".encode()
    + b"data:\n\ndata: \n\n\n\ndata\n\ndata: [DONE]\n\n"
)
EVENTS = [b"one", b"without a space", b"first\n second", "\u2028 \u0085 größer".encode(), b"[DONE]"]


@given(st.lists(st.integers(0, len(STREAM))))
def test_events_are_the_same_wherever_the_bytes_are_cut(cuts: list[int]) -> None:
    bounds = [0, *sorted(cuts), len(STREAM)]
    splitter = Splitter()
    found = [splitter.feed(STREAM[start:end]) for start, end in pairwise(bounds)]
    assert [data for each in found for data in each] == EVENTS
    assert splitter.close() == []


def test_an_event_comes_with_the_bytes_that_end_it() -> None:
    splitter = Splitter()
    assert splitter.feed(b"data: one\n") == []
    assert splitter.feed(b"\ndata: tw") == [b"one"]
    assert splitter.feed(b"o\n\n") == [b"two"]


@pytest.mark.parametrize("end", [b"", b"\n", b"\r\n"])
def test_the_last_event_needs_no_empty_line(end: bytes) -> None:
    splitter = Splitter()
    assert splitter.feed(b"data: last" + end) == []
    assert splitter.close() == [b"last"]
