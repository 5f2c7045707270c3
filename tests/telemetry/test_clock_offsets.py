"""Another machine's clock, told from questions and answers."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chiasm.telemetry.timelines.clock_offsets import ClockOffset, Exchange, estimate

HOUR = 3600.0


def exchange(offset: float, there: float, back: float, asked: float = 1.8e9) -> Exchange:
    return Exchange(asked, asked + there + offset, asked + there + back)


def test_a_clock_that_is_hours_ahead_is_put_right_to_half_the_round_trip() -> None:
    clock = estimate([exchange(2 * HOUR, 0.001, 0.003)])
    assert clock.seconds == pytest.approx(2 * HOUR, abs=0.002)
    assert clock.uncertainty == pytest.approx(0.002, abs=1e-6)
    assert clock.ours(1.8e9 + 2 * HOUR) == pytest.approx(1.8e9, abs=0.002)


def test_the_quickest_exchange_counts() -> None:
    exchanges = [exchange(-HOUR, 0.5, 0.1), exchange(-HOUR, 0.001, 0.001), exchange(-HOUR, 0.002, 0.3)]
    assert estimate(exchanges) == estimate(exchanges[1:2])


def test_an_offset_that_the_way_explains_is_none() -> None:
    clock = estimate([exchange(0.0, 0.009, 0.001)])
    assert clock.seconds == 0.0
    assert clock.uncertainty == pytest.approx(0.009, abs=1e-6)  # the truth may be as far away as that


def test_an_exchange_in_which_our_own_clock_was_set_back_is_not_the_quickest() -> None:
    good = exchange(HOUR, 0.01, 0.01)
    assert estimate([Exchange(1.8e9, 1.8e9, 1.8e9 - 60), good]) == estimate([good])


def test_no_exchange_tells_nothing() -> None:
    with pytest.raises(ValueError, match="empty"):
        estimate([])


SECONDS = st.floats(0, 10)


@settings(deadline=None)
@given(st.floats(-1e6, 1e6), st.lists(st.tuples(SECONDS, SECONDS), min_size=1, max_size=5))
def test_the_truth_lies_within_the_uncertainty(offset: float, ways: list[tuple[float, float]]) -> None:
    clock: ClockOffset = estimate([exchange(offset, there, back) for there, back in ways])
    rounding = 1e-6
    assert abs(clock.seconds - offset) <= clock.uncertainty + rounding
