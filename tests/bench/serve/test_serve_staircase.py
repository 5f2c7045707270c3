"""Traffic that climbs a ladder of rates."""

import itertools

import pytest
from made_answers import answer

from bench.load.workloads import MIXES
from bench.serve.plan import DEFAULT, FULL, QUICK, Plan, in_turn
from bench.serve.staircase import at_once, by_rate, climb, steps


def test_each_rate_has_its_time_and_one_request_at_least() -> None:
    assert steps([4.0, 1.0, 0.01], 5.0) == {0.01: range(1), 1.0: range(1, 6), 4.0: range(6, 26)}


def test_requests_come_at_exactly_their_rate_one_stretch_after_the_other() -> None:
    ladder = steps([1.0, 4.0], 5.0)
    planned = climb(MIXES["1img"], ladder, "seed")
    due_s = [each.due_s for each in planned]
    assert due_s == sorted(due_s)
    assert due_s[4] == pytest.approx(5.0)
    assert due_s[24] == pytest.approx(10.0)
    assert {each.kind for each in planned} == {"1img"}
    assert len({round(later - earlier, 6) for earlier, later in itertools.pairwise(due_s)}) > 20


def test_the_seed_decides_everything() -> None:
    ladder = steps([2.0], 4.0)
    assert climb(MIXES["mixed"], ladder, "a") == climb(MIXES["mixed"], ladder, "a")
    assert climb(MIXES["mixed"], ladder, "a") != climb(MIXES["mixed"], ladder, "b")
    assert at_once(MIXES["text"], 3, "a") == at_once(MIXES["text"], 3, "a") != at_once(MIXES["text"], 3, "b")
    assert [each.due_s for each in at_once(MIXES["text"], 3, "a")] == [0.0] * 3


def test_answers_are_told_apart_by_their_place() -> None:
    answers = [answer(float(number), 1) for number in range(4)]
    assert by_rate(answers, {1.0: range(1), 2.0: range(1, 4)}) == {1.0: answers[:1], 2.0: answers[1:]}


def test_every_side_is_first_in_its_turn() -> None:
    assert [in_turn(["a", "b", "c"], turn) for turn in range(4)] == [
        ["a", "b", "c"],
        ["b", "c", "a"],
        ["c", "a", "b"],
        ["a", "b", "c"],
    ]


def test_the_documents_plan_ends_in_half_an_hour_and_the_quick_one_in_a_minute() -> None:
    workloads = tuple(MIXES[name] for name in ("text", "1img", "4img"))
    sides = ("mono", "mono-x2-calibrated", "split", "split+steal")
    assert Plan(sides, workloads, DEFAULT).about_s(4) < 1800
    assert Plan(sides[::2], workloads[1:2], QUICK).about_s(2) <= 60
    assert FULL.rounds >= 5


def test_the_journal_knows_what_decides_the_figures() -> None:
    plan = Plan(("mono",), (MIXES["text"],), DEFAULT)
    assert plan.settings() == Plan(("mono",), (MIXES["text"],), DEFAULT).settings()
    assert plan.settings() != Plan(("mono",), (MIXES["1img"],), DEFAULT).settings()
    assert plan.settings() != Plan(("mono",), (MIXES["text"],), DEFAULT, pace=2).settings()
    assert plan.settings() != Plan(("mono",), (MIXES["text"],), FULL).settings()
