"""The arithmetic of a fetch over a link. Whether links obey it is shown in tests/multihost."""

import math

import pytest

from chiasm.config import WireConfig
from chiasm.wire.transfer_time import Link, fetch_seconds

WIRE = WireConfig(chunk_bytes=1 << 20, window_chunks=8)
LINK = Link(round_trip_s=0.01, bytes_per_s=125e6)


def test_a_small_item_takes_the_round_trip() -> None:
    assert fetch_seconds(1, LINK, WIRE) == pytest.approx(0.01, rel=1e-5)


def test_a_large_item_takes_its_bytes_as_well() -> None:
    assert fetch_seconds(125_000_000, LINK, WIRE) == pytest.approx(1.01)


def test_more_than_the_window_may_not_be_under_way() -> None:
    """Four chunks at a time, where twelve would fill the link: each four but the last take a round trip and half their
    time."""
    wire = WireConfig(chunk_bytes=100_000, window_chunks=4)
    assert fetch_seconds(4_000_000, LINK, wire) == pytest.approx(0.01 + 9 * (0.01 + 0.0016) + 0.0032)


@pytest.mark.parametrize("chunks", [1, 3, 4])
def test_what_fits_into_the_window_waits_for_no_credit(chunks: int) -> None:
    wire = WireConfig(chunk_bytes=100_000, window_chunks=4)
    assert fetch_seconds(chunks * 100_000, LINK, wire) == pytest.approx(0.01 + chunks * 0.0008)


def test_the_first_chunk_beyond_the_window_waits_until_half_of_it_has_landed() -> None:
    wire = WireConfig(chunk_bytes=100_000, window_chunks=4)
    assert fetch_seconds(500_000, LINK, wire) == pytest.approx(0.0016 + 0.01 + 0.0008 + 0.01)


def test_no_window_is_faster_than_the_link() -> None:
    wire = WireConfig(chunk_bytes=1 << 20, window_chunks=1000)
    assert fetch_seconds(1_250_000, LINK, wire) == pytest.approx(0.01 + 0.01)


def test_tcp_opens_its_window_by_doubling_it() -> None:
    """Of 700 kB go 100, 200 and 400 at once: after each of the first two the rest of a round trip is waited for."""
    opening = Link(0.01, 125e6, opening=100_000)
    waits = (0.01 - 0.1 / 125) + (0.01 - 0.2 / 125)
    assert fetch_seconds(700_000, opening, WIRE) == pytest.approx(0.01 + 0.7 / 125 + waits)


def test_tcp_s_window_is_waited_for_until_credit_is_less() -> None:
    """Of 800 kB go 100 and 200, and then 400 at a time, for which credit is waited for instead."""
    opening = Link(0.01, 125e6, opening=100_000)
    wire = WireConfig(chunk_bytes=100_000, window_chunks=4)
    waits = (0.01 - 0.1 / 125) + (0.01 - 0.2 / 125) + (0.01 - 0.2 / 125)
    assert fetch_seconds(800_000, opening, wire) == pytest.approx(0.01 + 0.8 / 125 + waits)


def test_a_window_that_fills_the_link_is_not_waited_for() -> None:
    full = Link(0.01, 125e6, opening=1_250_000)
    assert fetch_seconds(50_000_000, full, WIRE) == fetch_seconds(50_000_000, LINK, WIRE)


def test_a_link_without_a_limit_leaves_the_round_trips() -> None:
    endless = Link(0.01, math.inf)
    assert fetch_seconds(4 * 8 << 20, endless, WIRE) == pytest.approx(4 * 0.01)
