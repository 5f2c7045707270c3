"""Objectives hold by tails and failures, and by which percentile."""

from collections.abc import Sequence

import pytest
from msgspec.structs import replace

from bench.load.answers import Answer
from bench.load.goodput import Objectives, Shares, holds, shares_of, tails


def answer(ttft_ms: float, itls_ms: Sequence[float] = (), error: str | None = None) -> Answer:
    chunks_s = [1 + ttft_ms / 1000]
    for itl_ms in itls_ms:
        chunks_s.append(chunks_s[-1] + itl_ms / 1000)
    return Answer(0, "text", 1.0, 1.0, tuple(chunks_s), chunks_s[-1], 5, len(chunks_s), error)


def steady(count: int, ttft_ms: float, itl_ms: float) -> list[Answer]:
    return [answer(ttft_ms, [itl_ms] * 2)] * count


PROMISE = Objectives(ttft_ms=500.5, itl_ms=50.5)


def test_both_tails_must_hold() -> None:
    assert holds(steady(20, 500, 50), PROMISE)
    assert not holds(steady(20, 501, 50), PROMISE)
    assert not holds(steady(20, 500, 51), PROMISE)


def test_a_failure_breaks_them() -> None:
    assert not holds([*steady(20, 500, 50), answer(1, error="refused")], PROMISE)


def test_nothing_answered_holds_nothing() -> None:
    assert not holds([], PROMISE)


def test_answers_of_one_token_have_no_gaps_to_judge() -> None:
    assert holds([answer(500)] * 3, PROMISE)


@pytest.mark.parametrize(
    ("count", "late", "told"),
    [
        (100, 5, True),  # 5 % may be late where P95 is all that can be told
        (100, 6, False),
        (1000, 10, True),  # and 1 % where it is P99
        (1000, 11, False),
    ],
)
def test_the_percentile_is_what_so_many_samples_tell(count: int, late: int, told: bool) -> None:
    assert holds([answer(100)] * (count - late) + [answer(900)] * late, PROMISE) is told


def test_gaps_of_all_streams_are_pooled() -> None:
    one_slow = [*[answer(100, [10] * 30)] * 9, answer(100, [900] * 3 + [10] * 27)]
    assert holds(one_slow, PROMISE)  # 3 of 300


def test_a_load_generator_that_was_late_hides_nothing() -> None:
    late = [replace(each, due_s=0.9) for each in steady(20, 450, 50)]
    assert not holds(late, PROMISE)  # 450 ms from when it was sent, 550 from when it was due


def test_a_role_is_no_token_so_that_its_gap_does_not_thin_the_tail_out() -> None:
    # One gap in ten is too long; with a gap of nothing before each, it would be one in twenty.
    gaps_ms = [[0, 900]] * 2 + [[0, 10]] * 18
    answers = [replace(answer(100, gaps), leading=1) for gaps in gaps_ms]
    assert not holds(answers, PROMISE)
    assert holds([replace(each, leading=0) for each in answers], PROMISE)


def test_gaps_are_judged_that_are_told_of_a_rate_whosever_they_are() -> None:
    found = tails(steady(20, 400, 10), [0.9] * 20, Shares(0.95, 0.95))
    assert (found.ttft_ms, found.itl_ms) == (pytest.approx(400), pytest.approx(900))
    assert tails(steady(20, 400, 10), [], Shares(0.95, 0.95)).itl_ms is None


def test_the_rate_with_the_fewest_samples_decides_for_the_whole_ladder() -> None:
    assert shares_of([(1000, 1000), (2000, 3000)]) == Shares(0.99, 0.99)
    assert shares_of([(1000, 1000), (999, 1000)]) == Shares(0.95, 0.99)
    assert shares_of([(1000, 999), (1000, 1000)]) == Shares(0.99, 0.95)


def test_gaps_are_samples_of_their_own() -> None:
    few = [answer(100, [10] * 50)] * 20
    assert str(shares_of([(20, 1000)])) == "P95 of TTFT, P99 of ITL"
    eleven_late = [answer(100, [900] * 11 + [10] * 39), *few[1:]]
    assert not holds(eleven_late, PROMISE)  # 11 of 1,000
    assert holds([answer(100, [900] * 10 + [10] * 40), *few[1:]], PROMISE)
