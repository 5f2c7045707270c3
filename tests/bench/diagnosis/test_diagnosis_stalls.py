"""What streams suffer, from the times of their tokens."""

import math

import pytest

from bench.diagnosis.stalls import Stall, apart, held_back, quiet_gaps, stall

EVEN = [0.0, 0.1, 0.2, 0.3, 0.4, 0.5]
HELD = [0.0, 0.1, 0.2, 0.7, 0.8, 0.9]  # for 0.4 s


def test_gaps_that_touch_a_busy_time_are_not_quiet() -> None:
    assert quiet_gaps([HELD], [(0.25, 0.65)]) == pytest.approx([0.1] * 4)
    assert len(quiet_gaps([HELD, EVEN], [])) == 10
    assert quiet_gaps([HELD], [(-1.0, 0.05), (0.25, 0.65), (0.85, math.inf)]) == pytest.approx([0.1, 0.1])
    assert quiet_gaps([EVEN], [(-1.0, 1.0)]) == []


def test_pieces_that_come_together_were_held_back() -> None:
    assert held_back([0.0, 0.0, 0.3])
    assert held_back([0.001, 0.001, 0.3])
    assert held_back([0.00001, 0.0003])
    assert not held_back([0.1, 0.1, 0.3, 0.1, 0.1, 1.0, 0.00001])
    assert not held_back([])


def test_a_stream_falls_behind_by_what_its_pieces_took_beyond_usual_gaps() -> None:
    found = stall([HELD], (0.25, 0.7), 0.1)
    assert found is not None
    assert found.behind_ms == pytest.approx(400)
    assert found.longest_ms == pytest.approx(500)
    assert found.gaps == (pytest.approx((500.0,)),)


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


def test_only_streams_that_were_there_all_the_while_tell() -> None:
    begins_late, ends_early = [0.3, 0.4, 0.9], [0.0, 0.1, 0.6]
    found = stall([HELD, EVEN, begins_late, ends_early], (0.25, 0.5), 0.1)
    assert found is not None
    assert found.behind == pytest.approx((400, 0, 400))  # the last ends after the window, and so tells
    assert found.behind_ms == pytest.approx(800 / 3)
    assert found.longest_ms == pytest.approx(500)  # of any of them
    assert stall([begins_late], (0.25, 0.5), 0.1) is None
    assert stall([ends_early], (0.25, 0.65), 0.1) is None


def of(*behind: float) -> Stall:
    return Stall(behind, tuple((each,) for each in behind))


def test_streams_of_one_engine_wait_together() -> None:
    together, asunder, unfelt = of(400, 380, 410), of(400, 2, -1), of(20, 1, 0)
    assert apart([asunder] * 3, 0.01)
    assert apart([asunder, asunder, together], 0.01)
    assert not apart([together] * 3, 0.01)
    assert not apart([asunder, together, together], 0.01)
    assert not apart([unfelt] * 9, 0.01)
    assert not apart([asunder] * 2, 0.01)  # too few to say
    assert not apart([of(400)] * 3, 0.01)  # of one stream nothing follows
