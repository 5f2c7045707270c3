"""Slopes, the encode's share, phases and growth, of engines whose costs are given."""

import pytest
from virtual_engine import GAP_S, LADDER, VirtualEngine, swept

from bench.diagnosis.findings import Findings, TooLittle, find, points, usual_gap_of
from bench.diagnosis.phases import phases
from bench.diagnosis.sweeping import Measured
from bench.diagnosis.together import together
from bench.load.slopes import Growth

ENCODE, PREFILL = 200e-6, 50e-6  # seconds a token
COSTS = [(ENCODE * more, PREFILL * more) for more in (0.98, 1.0, 1.02)]


def found_in(measured: Measured) -> Findings:
    gap_s = usual_gap_of(measured)
    return find(points(measured, gap_s), gap_s, LADDER, LADDER[-1])


def test_slopes_are_what_tokens_cost() -> None:
    found = found_in(swept(COSTS))
    assert found.gap_ms == pytest.approx(1000 * GAP_S)
    assert found.picture.value == pytest.approx(250)
    assert found.text.value == pytest.approx(50)
    assert found.encode.value == pytest.approx(200)
    assert found.encode.low < 200 < found.encode.high < 220
    assert found.share is not None
    assert found.share.value == pytest.approx(0.8)


def test_the_largest_picture_is_judged_by_its_longest_gap() -> None:
    found = found_in(swept(COSTS))
    assert found.judged.picture.longest.value == pytest.approx(10 + 256)
    assert found.judged.text.longest.value == pytest.approx(10 + 51.2)
    assert found.cut.value == pytest.approx(204.8)
    assert [seen.picture.behind.value for seen in found.rungs] == pytest.approx([16, 64, 256])


def test_what_happens_before_the_engine_keeps_nobody_waiting() -> None:
    found = found_in(swept(COSTS, front_s=0.2))
    assert found.encode.value == pytest.approx(200)
    parts = phases(found, answer_tokens=100)
    assert parts.preparation.value == pytest.approx(200, abs=1000 * GAP_S)
    assert parts.encode.value == pytest.approx(204.8)
    assert parts.prefill.value == pytest.approx(51.2)
    assert parts.rest.value == pytest.approx(15, abs=1)  # half a gap of waiting, and one step
    assert parts.decode == pytest.approx(1000)
    assert parts.total_ms == pytest.approx(200 + 204.8 + 51.2 + 15 + 1000, abs=11)


def test_where_pictures_may_cost_nothing_there_is_no_share() -> None:
    found = found_in(swept([(0.0, 0.0), (1e-6, 0.0), (-1e-6, 0.0)]))
    assert found.share is None


def test_vllms_clock_is_told_of_the_judged_picture() -> None:
    clock = found_in(swept(COSTS)).clock
    assert clock is not None
    assert clock.picture.value == pytest.approx(266)
    assert clock.text.value == pytest.approx(61.2)


def test_two_sweeps_are_too_few_and_half_a_sweep_is_none() -> None:
    measured = swept(COSTS)
    measured.carried.pop()
    with pytest.raises(TooLittle, match="2 whole sweeps"):
        found_in(measured)


def test_streams_that_were_never_alone_tell_nothing() -> None:
    measured = swept(COSTS)
    measured.busy[:] = [(-1.0, 1e9)]
    with pytest.raises(TooLittle, match="--minutes"):
        usual_gap_of(measured)


@pytest.mark.parametrize(("power", "expected"), [(1.0, Growth.LINEAR), (2.0, Growth.SUPER_LINEAR), (0.0, Growth.FLAT)])
def test_growth_with_pictures_at_once(power: float, expected: Growth) -> None:
    engine = VirtualEngine()
    for number, more in enumerate((0.99, 1.0, 1.01)):
        for size in (1, 2, 4):
            engine.burst(number, size, more * 0.1 * size**power)
    found = together(points(engine.measured, GAP_S), (1, 2, 4))
    assert found is not None
    assert found.behind.growth == expected
    assert found.longest.growth == expected
    assert [row.pictures for row in found.rows] == [1, 2, 4]
    assert found.rows[2].behind_ms == pytest.approx(100 * 4**power)


def test_two_rounds_tell_nothing() -> None:
    engine = VirtualEngine()
    for number in range(2):
        for size in (1, 2, 4):
            engine.burst(number, size, 0.1 * size)
    assert together(points(engine.measured, GAP_S), (1, 2, 4)) is None
