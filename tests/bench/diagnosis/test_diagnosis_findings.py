"""Slopes, the encode's part, phases and growth, of engines whose costs are given."""

import pytest
from virtual_engine import GAP_S, LADDER, VirtualServer, around, swept

from bench.diagnosis.findings import Untold, usual_gap_of
from bench.load.slopes import Growth

COSTS = around(200, 50)  # ms for 1,000 tokens


def test_slopes_are_what_tokens_cost() -> None:
    found = swept(COSTS).found()
    assert found.gap_ms == pytest.approx(1000 * GAP_S)
    assert found.picture.value == pytest.approx(250)
    assert found.text.value == pytest.approx(50)
    assert found.encode.value == pytest.approx(200)
    assert found.encode.low < 200 < found.encode.high < 220


def test_the_largest_picture_is_judged_by_its_longest_gap() -> None:
    found = swept([COSTS[1]] * 3).found()
    judged = found.judged
    assert judged.carries == LADDER[-1]
    assert judged.picture.longest.value == pytest.approx(10 + 256)
    assert judged.text.longest.value == pytest.approx(10 + 51.2)
    assert judged.cut.value == pytest.approx(204.8)
    assert judged.share is not None
    assert judged.share.value == pytest.approx(0.8)
    assert found.alone.value == pytest.approx(10)
    assert [seen.picture.behind.value for seen in found.rungs] == pytest.approx([16, 64, 256])


def test_a_difference_is_that_of_what_is_printed_beside_it() -> None:
    judged = swept(COSTS).found().judged
    assert judged.encode.value == pytest.approx(judged.picture.behind.value - judged.text.behind.value)


def test_chunks_shorten_the_longest_gap_and_not_what_streams_lose() -> None:
    found = swept([COSTS[1]] * 3, chunk=256).found()
    assert found.judged.text.behind.value == pytest.approx(51.2)
    assert found.judged.text.longest.value == pytest.approx(10 + 12.8)
    assert found.judged.picture.longest.value == pytest.approx(10 + 204.8 + 12.8)
    assert found.text.value == pytest.approx(50)


def test_phases_make_up_the_time_to_first_token() -> None:
    found = swept(COSTS, front_s=0.2).found()
    parts = found.phases
    assert parts.preparation.value == pytest.approx(200, abs=1000 * GAP_S)
    assert parts.encode.value == pytest.approx(204.8)
    assert parts.prefill.value == pytest.approx(51.2)
    assert parts.rest.value == pytest.approx(15, abs=1)  # half a gap of waiting, and one step
    assert parts.token == pytest.approx(10)
    total = sum(each.value for each in (parts.preparation, parts.encode, parts.prefill, parts.rest))
    assert total == pytest.approx(found.judged.picture.ttft.value)


def test_pieces_of_several_tokens_are_not_taken_for_slow_tokens() -> None:
    found = swept(COSTS, piece=4).found()
    assert found.piece_tokens == pytest.approx(4)
    assert found.gap_ms == pytest.approx(40)
    assert found.phases.token == pytest.approx(10)
    assert found.encode.value == pytest.approx(200, rel=0.02)


def test_where_pictures_may_cost_nothing_there_is_no_share() -> None:
    assert swept([(0.0, 0.0), (1e-6, 0.0), (-1e-6, 0.0)]).found().judged.share is None


def test_streams_on_several_engines_are_not_averaged() -> None:
    with pytest.raises(Untold, match="several engines"):
        swept(COSTS, engines=2).found()
    with pytest.raises(Untold, match="several engines"):
        swept(COSTS * 2, engines=4).found()


def test_pieces_that_are_let_go_together_tell_no_gaps() -> None:
    with pytest.raises(Untold, match="turn its buffering off"):
        swept(COSTS, flush=16).found()


def test_two_sweeps_are_too_few_and_half_a_sweep_is_none() -> None:
    server = swept(COSTS)
    server.measured.carried.pop()
    with pytest.raises(Untold, match="2 whole sweeps"):
        server.found()


def test_streams_that_were_never_alone_tell_nothing() -> None:
    measured = swept(COSTS).measured
    measured.busy[:] = [(-1.0, 1e9)]
    with pytest.raises(Untold, match="--minutes"):
        usual_gap_of(measured)


@pytest.mark.parametrize(("chunk", "longest"), [(1_000_000, Growth.LINEAR), (64, Growth.FLAT)])
def test_growth_with_several_at_once(chunk: int, longest: Growth) -> None:
    """Four at once come into one step, or into chunks of it."""
    costs = around(0.1, 400, 0.01)
    found = swept(costs, rounds=costs, chunk=chunk).found().bursts
    assert found is not None
    assert found.rounds == 3
    assert [row.at_once for row in found.rows] == [1, 2, 4]
    assert (found.behind.growth, found.longest.growth) == (Growth.LINEAR, longest)
    assert found.rows[2].text.behind.value == pytest.approx(4 * 256 * 0.4, rel=0.01)


def test_two_rounds_tell_nothing() -> None:
    assert swept(COSTS, rounds=COSTS[:2]).found().bursts is None


def test_texts_at_once_are_beside_the_pictures() -> None:
    server = VirtualServer()
    for number, (encode, prefill) in enumerate(COSTS):
        server.sweep(number, encode, prefill)
        server.round(number, encode, prefill)
    found = server.found().bursts
    assert found is not None
    assert found.rows[2].picture.longest.value == pytest.approx(10 + 4 * 64, rel=0.03)
    assert found.rows[2].text.longest.value == pytest.approx(10 + 4 * 12.8, rel=0.03)
