"""What streams suffer, from the times of their tokens."""

import pytest

from bench.diagnosis.stalls import stall, usual_gap_s

EVEN = [0.0, 0.1, 0.2, 0.3, 0.4, 0.5]
HELD = [0.0, 0.1, 0.2, 0.7, 0.8, 0.9]  # for 0.4 s


def test_gaps_that_touch_a_busy_time_are_not_usual() -> None:
    assert usual_gap_s([HELD], [(0.25, 0.65)]) == pytest.approx(0.1)
    assert usual_gap_s([HELD], []) == pytest.approx(0.18)
    assert usual_gap_s([HELD], [(-1.0, 0.05), (0.25, 0.65), (0.85, 2.0)]) == pytest.approx(0.1)


def test_where_all_is_busy_there_is_no_usual_gap() -> None:
    assert usual_gap_s([EVEN], [(-1.0, 1.0)]) is None
    assert usual_gap_s([], []) is None


def test_a_stream_falls_behind_by_what_its_pieces_took_beyond_usual_gaps() -> None:
    found = stall([HELD], (0.25, 0.7), 0.1)
    assert found is not None
    assert found.behind_ms == pytest.approx(400)
    assert found.longest_ms == pytest.approx(500)
    assert found.gaps_ms == pytest.approx((500.0,))


def test_work_in_many_steps_counts_as_much_as_in_one() -> None:
    chunked = [0.0, 0.1, 0.3, 0.5, 0.7, 0.9, 1.0]  # four steps of 0.1 s more
    found = stall([chunked], (0.15, 0.9), 0.1)
    assert found is not None
    assert found.behind_ms == pytest.approx(400)
    assert found.longest_ms == pytest.approx(200)


def test_nobody_disturbed_falls_behind_by_nothing() -> None:
    found = stall([EVEN], (0.15, 0.32), 0.1)
    assert found is not None
    assert found.behind_ms == pytest.approx(0)


def test_it_is_the_mean_of_the_streams_that_were_there_all_the_while() -> None:
    begins_late, ends_early = [0.3, 0.4, 0.9], [0.0, 0.1, 0.6]
    found = stall([HELD, EVEN, begins_late, ends_early], (0.25, 0.5), 0.1)
    assert found is not None
    assert found.behind_ms == pytest.approx((400 + 0 + 400) / 3)  # the third ends after the window, and so tells
    assert stall([begins_late], (0.25, 0.5), 0.1) is None
    assert stall([ends_early], (0.25, 0.65), 0.1) is None
