"""Goodput goes by tails and failures, from the bottom of the ladder, and says by which percentile."""

from collections.abc import Sequence

import pytest

from bench.load.answers import Answer
from bench.load.goodput import Objectives, curve, curve_rows, goodput, holds, ladder_rows


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


LADDER = {
    4.0: steady(20, 300, 40),
    1.0: steady(20, 100, 20),
    2.0: steady(20, 200, 60),
    8.0: steady(20, 900, 90),
}


def test_goodput_is_the_top_of_an_unbroken_ladder() -> None:
    assert goodput(LADDER, Objectives(1000, 100)) == 8.0
    assert goodput(LADDER, Objectives(500, 70)) == 4.0
    assert goodput(LADDER, Objectives(500, 50)) == 1.0  # at 2 it does not hold: that it does at 4 is luck
    assert goodput(LADDER, Objectives(50, 70)) == 0.0
    assert goodput({}, PROMISE) == 0.0


def test_one_ladder_gives_a_whole_curve() -> None:
    grid = [Objectives(ttft, 70) for ttft in (50, 150, 250, 500)]
    assert curve(LADDER, grid) == [0.0, 1.0, 2.0, 4.0]


def test_rows_of_a_ladder_name_the_percentiles() -> None:
    many = {1.0: steady(600, 100, 20), 2.0: [answer(100, error="gone")]}
    assert ladder_rows(many) == [
        {
            "rate_per_s": 1.0,
            "requests": 600,
            "failed": 0,
            "ttft_percentile": "p95",
            "ttft_tail_ms": pytest.approx(100),
            "itl_percentile": "p99",
            "itl_tail_ms": pytest.approx(20),
        },
        {
            "rate_per_s": 2.0,
            "requests": 1,
            "failed": 1,
            "ttft_percentile": None,
            "ttft_tail_ms": None,
            "itl_percentile": None,
            "itl_tail_ms": None,
        },
    ]


def test_rows_of_a_curve_name_them_and_say_where_the_ladder_ended() -> None:
    ladder = {1.0: steady(20, 100, 20), 2.0: steady(600, 200, 20)}
    low, high = curve_rows(ladder, [Objectives(150, 50), Objectives(250, 50)])
    assert low == {
        "ttft_objective_ms": 150,
        "itl_objective_ms": 50,
        "goodput_per_s": 1.0,
        "at_least": False,
        "ttft_percentile": "p95",
        "itl_percentile": "p95, p99",
    }
    assert (high["goodput_per_s"], high["at_least"]) == (2.0, True)
