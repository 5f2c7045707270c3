"""Goodput between the rates of a ladder, its noise, and ratios of it."""

import pytest
from made_answers import GAPS, alike, answer, rung

from bench.load.answers import Answer
from bench.load.goodput import Objectives, Shares
from bench.serve import reach
from bench.serve.reach import Bound
from bench.serve.staircase import Round

OBJECTIVES = Objectives(ttft_ms=1000, itl_ms=200)


def ladder(*itls_ms: float, ttft_ms: float = 100) -> Round:
    """At 1, 2, ... requests/s."""
    return {float(rate): rung(alike(3, ttft_ms, itl_ms)) for rate, itl_ms in enumerate(itls_ms, start=1)}


def burst(per_s: float) -> list[Answer]:
    """Two answers, so fast."""
    return [answer(1000 / per_s, 1000 / per_s / GAPS, due_s=0.0)] * 2


def climb(rounds: list[Round], *per_s: float) -> reach.Climb:
    """Of so much at once in each round; unsaid it is more than any rate."""
    return reach.Climb(rounds, [burst(each) for each in per_s or [1000.0] * len(rounds)], Shares(0.95, 0.95))


def test_goodput_lies_where_the_line_between_two_rates_crosses_the_objective() -> None:
    assert climb([ladder(50, 100, 300, 900)]).goodput(OBJECTIVES) == pytest.approx(2.5)
    assert climb([ladder(50, 100, 150, 900)]).goodput(OBJECTIVES) == pytest.approx(3 + 50 / 750)


def test_the_objective_that_is_reached_first_counts() -> None:
    both = {
        1.0: rung(alike(3, 500, 100)),
        2.0: rung(alike(3, 3000, 300)),
    }  # TTFT after a fifth of the way, ITL after a half
    assert climb([both]).goodput(OBJECTIVES) == pytest.approx(1.2)


def test_what_holds_above_a_rate_that_does_not_is_luck() -> None:
    assert climb([ladder(100, 300, 50)]).goodput(OBJECTIVES) == pytest.approx(1.5)


def test_goodput_is_none_where_the_lowest_rate_is_too_much_and_may_be_more_where_the_highest_is_not() -> None:
    low, top = climb([ladder(300, 400)]), climb([ladder(100, 150)])
    assert (low.goodput(OBJECTIVES), low.is_open(OBJECTIVES)) == (0.0, False)
    assert (top.goodput(OBJECTIVES), top.is_open(OBJECTIVES)) == (2.0, True)


def test_a_failed_request_ends_the_ladder_below_it() -> None:
    failing = {1.0: rung(alike(3, 100, 100)), 2.0: rung([*alike(3, 100, 100), answer(1, 1, error="broken")])}
    assert climb([failing]).goodput(OBJECTIVES) == 1.0


def test_rounds_count_together_and_the_noise_is_what_each_of_them_decides() -> None:
    seen = climb([ladder(100, 150), ladder(100, 150), ladder(100, 300)])
    assert seen.goodput(OBJECTIVES) == pytest.approx(1.5)  # the tail of all three is the third's
    assert seen.without_one(OBJECTIVES) == pytest.approx([1.5, 1.5, 2.0])


def test_one_round_tells_no_noise() -> None:
    assert climb([ladder(100, 300)]).without_one(OBJECTIVES) == pytest.approx([1.5])


def test_a_goodput_has_the_interval_that_its_rounds_give() -> None:
    seen = climb([ladder(100, 150, 300), ladder(100, 150, 300), ladder(100, 300, 300)])
    error = (2 / 3 * (2 * (5 / 18) ** 2 + (5 / 9) ** 2)) ** 0.5  # of 1.5, 1.5 and 2 1/3, by hand
    found = seen.interval(OBJECTIVES)
    assert found is not None
    assert (found.value, found.low, found.high) == pytest.approx(
        (1.5, 1.5 - 4.3027 * error, 1.5 + 4.3027 * error), abs=1e-4
    )
    assert climb([ladder(100, 150), ladder(100, 150)]).interval(OBJECTIVES) is None


def test_a_ratio_has_the_noise_of_both() -> None:
    ours = climb([ladder(100, 150, 300), ladder(100, 150, 300), ladder(100, 300, 300)])
    theirs = climb([ladder(100, 300, 300), ladder(100, 300, 300), ladder(100, 150, 300)])
    ratio = ours.against(theirs, OBJECTIVES)
    assert ratio is not None
    assert ratio.value == pytest.approx(1.0)
    assert ratio.interval is not None
    without = [1.0, 1.0, (2 + 50 / 150) / 1.5]  # both without the same round
    mean = sum(without) / 3
    error = (2 / 3 * sum((each - mean) ** 2 for each in without)) ** 0.5
    assert ratio.interval.high - ratio.value == pytest.approx(4.3027 * error, rel=1e-3)
    assert ratio.bound is Bound.NONE


@pytest.mark.parametrize(
    ("ours", "theirs", "value", "bound"),
    [
        ((100, 300), (300, 300), 1.5, Bound.AT_LEAST),  # they do not keep it at 1 request/s
        ((300, 300), (100, 300), 1 / 1.5, Bound.AT_MOST),
        ((100, 150), (100, 300), 2 / 1.5, Bound.AT_LEAST),  # we may bear more than was measured
        ((100, 300), (100, 150), 1.5 / 2, Bound.AT_MOST),
        ((100, 150), (100, 150), 1.0, Bound.OPEN),
    ],
)
def test_beyond_a_ladder_a_ratio_is_a_bound(
    ours: tuple[float, ...], theirs: tuple[float, ...], value: float, bound: Bound
) -> None:
    ratio = climb([ladder(*ours)]).against(climb([ladder(*theirs)]), OBJECTIVES)
    assert ratio is not None
    assert (ratio.value, ratio.bound) == (pytest.approx(value), bound)


def test_nothing_to_nothing_is_no_ratio() -> None:
    assert climb([ladder(300)]).against(climb([ladder(400)]), OBJECTIVES) is None


def test_where_a_backlog_grows_it_counts_what_was_answered_however_short_the_waits_are() -> None:
    kept = {1.0: rung(alike(3, 100, 100), due=10), 2.0: rung(alike(3, 100, 100), due=20)}
    piling = kept | {2.0: rung(alike(3, 100, 100), grown=8, due=20)}  # 12 of 20 within ten seconds
    assert climb([kept]).goodput(OBJECTIVES) == 2.0
    assert climb([piling]).goodput(OBJECTIVES) == pytest.approx(1.2)
    assert not climb([piling]).is_open(OBJECTIVES)


def test_what_is_answered_of_the_lowest_rate_counts_too_if_it_is_in_time() -> None:
    piling = {4.0: rung(alike(3, 100, 100), grown=20, due=40)}
    assert climb([piling]).goodput(OBJECTIVES) == pytest.approx(2.0)
    assert climb([{4.0: rung(alike(3, 100, 300), grown=20, due=40)}]).goodput(OBJECTIVES) == 0.0


def test_no_rate_counts_above_what_is_answered_when_all_come_at_once() -> None:
    capped = climb([ladder(100, 100)], 1.7)
    assert capped.goodput(OBJECTIVES) == pytest.approx(1.7)
    assert capped.without_one(OBJECTIVES) == pytest.approx([1.7])
    assert not capped.is_open(OBJECTIVES)
    ratio = capped.against(climb([ladder(100, 100)], 3.4), OBJECTIVES)
    assert ratio is not None
    assert (ratio.value, ratio.bound) == (pytest.approx(0.85), Bound.AT_MOST)  # of theirs, the ladder has not seen all


def test_a_little_above_the_highest_rate_what_is_answered_at_once_counts() -> None:
    near, beyond, broken = (climb([ladder(100, itl_ms)], most) for itl_ms, most in ((100, 2.1), (100, 2.3), (300, 2.1)))
    assert (near.goodput(OBJECTIVES), near.is_open(OBJECTIVES)) == (pytest.approx(2.1), False)
    assert (beyond.goodput(OBJECTIVES), beyond.is_open(OBJECTIVES)) == (2.0, True)
    assert (broken.goodput(OBJECTIVES), broken.is_open(OBJECTIVES)) == (pytest.approx(1.5), False)


def test_it_is_told_whether_the_ladder_or_what_is_answered_at_once_decides() -> None:
    rounds = [ladder(100, 300)]
    assert not climb(rounds, 1.6).is_at_once(OBJECTIVES)
    assert climb(rounds, 1.4).is_at_once(OBJECTIVES)


def test_what_is_answered_at_once_has_the_noise_of_its_rounds() -> None:
    alike_s = [ladder(100, 100)] * 3
    capped = climb(alike_s, 1.5, 1.5, 1.8)
    pooled, without = 6 / (2 / 1.5 + 2 / 1.5 + 2 / 1.8), [4 / (2 / 1.5 + 2 / 1.8), 4 / (2 / 1.5 + 2 / 1.8), 1.5]
    assert capped.goodput(OBJECTIVES) == pytest.approx(pooled)
    assert capped.without_one(OBJECTIVES) == pytest.approx(without)
    found = capped.interval(OBJECTIVES)
    assert found is not None
    assert found.low < pooled < found.high
    ratio = capped.against(climb(alike_s, 1.6, 1.7, 1.6), OBJECTIVES)
    assert ratio is not None
    assert ratio.interval is not None
    assert ratio.interval.low < ratio.value < ratio.interval.high


def test_where_an_end_decides_without_one_of_the_rounds_nothing_tells_either() -> None:
    """Without the third round both rates hold, or none does: more, or less, than the ladder can tell."""
    open_once = climb([ladder(100, 150), ladder(100, 150), ladder(100, 300)])
    nothing_once = climb([ladder(100, 300)] * 2 + [ladder(300, 300)], 3.0, 3.0, 3.0)
    for seen in (open_once, nothing_once):
        assert seen.interval(OBJECTIVES) is None
        ratio = seen.against(climb([ladder(100, 150, 300), ladder(100, 300, 300), ladder(100, 140, 300)]), OBJECTIVES)
        assert ratio is not None
        assert ratio.interval is None


def test_what_no_round_moves_has_no_interval() -> None:
    assert reach.over_rounds(1.5, [1.5, 1.5, 1.5]) is None
    assert reach.over_rounds(1.5, [1.5, 1.4, 1.6]) is not None


def test_where_an_end_of_the_ladder_decides_nothing_tells_how_sure_it_is() -> None:
    """It would be the same without any of the rounds, and look as if it were certain."""
    top, bottom, within = ([ladder(*itls)] * 3 for itls in ((100, 100), (300, 300), (100, 300)))
    for ends in (top, bottom):
        assert climb(ends).interval(OBJECTIVES) is None
        ratio = climb(ends).against(climb(within), OBJECTIVES)
        assert ratio is not None
        assert ratio.interval is None
