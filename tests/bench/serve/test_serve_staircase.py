"""Traffic that climbs a ladder of rates."""

import itertools

import pytest
from made_answers import answer

from bench.load.goodput import Objectives
from bench.load.workloads import MIXES
from bench.serve.plan import DEFAULT, FULL, QUICK, Amounts, Plan, in_turn
from bench.serve.staircase import Rung, answered_per_s, at_once, by_rate, climb, pooled, steps, up_to


def test_each_rate_has_its_time_and_some_requests_at_least() -> None:
    assert steps([4.0, 1.0, 0.01], 5.0, 1) == {0.01: range(1), 1.0: range(1, 6), 4.0: range(6, 26)}
    assert steps([4.0, 0.5], 5.0, 4) == {0.5: range(4), 4.0: range(4, 24)}
    assert steps([4.0, 0.5], 5.0, 4, together=3) == {0.5: range(6), 4.0: range(6, 27)}


def test_a_ladder_ends_at_the_first_rate_that_is_too_much() -> None:
    ladder = steps([1.0, 2.0, 4.0], 5.0, 1)
    assert list(up_to(ladder, 0.5)) == [1.0]
    assert list(up_to(ladder, 1.5)) == [1.0, 2.0]
    assert up_to(ladder, 9.0) == ladder
    whole, part = climb(MIXES["text"], ladder, "seed"), climb(MIXES["text"], up_to(ladder, 1.5), "seed")
    assert part == whole[: len(part)]


def test_requests_come_in_bursts_at_their_rate() -> None:
    ladder = steps([1.0, 2.0], 6.0, 1, together=3)
    due_s = [each.due_s for each in climb(MIXES["text"], ladder, "seed", together=3)]
    assert len(due_s) == 18
    assert all(len(set(due_s[n : n + 3])) == 1 for n in range(0, 18, 3))
    assert [0 <= each <= 6 for each in due_s] == [True] * 6 + [False] * 12
    assert max(due_s) <= 12


def test_requests_come_at_exactly_their_rate_one_stretch_after_the_other() -> None:
    ladder = steps([1.0, 4.0], 5.0, 1)
    planned = climb(MIXES["1img"], ladder, "seed")
    due_s = [each.due_s for each in planned]
    assert due_s == sorted(due_s)
    assert due_s[4] == pytest.approx(5.0)
    assert due_s[24] == pytest.approx(10.0)
    assert {each.kind for each in planned} == {"1img"}
    assert len({round(later - earlier, 6) for earlier, later in itertools.pairwise(due_s)}) > 20


def test_the_seed_decides_everything() -> None:
    ladder = steps([2.0], 4.0, 1)
    assert climb(MIXES["mixed"], ladder, "a") == climb(MIXES["mixed"], ladder, "a")
    assert climb(MIXES["mixed"], ladder, "a") != climb(MIXES["mixed"], ladder, "b")
    assert at_once(MIXES["text"], 3, "a") == at_once(MIXES["text"], 3, "a") != at_once(MIXES["text"], 3, "b")
    assert [each.due_s for each in at_once(MIXES["text"], 3, "a")] == [0.0] * 3


def test_answers_are_told_apart_by_their_place() -> None:
    answers = [answer(float(number), 1) for number in range(4)]
    found = by_rate(answers, {1.0: range(1), 2.0: range(1, 4)})
    assert {rate: rung.answers for rate, rung in found.items()} == {1.0: answers[:1], 2.0: answers[1:]}


def test_gaps_count_for_the_rate_that_came_meanwhile() -> None:
    """Two rates of three seconds each; an answer that was due under the first lasts until the second has ended."""
    long = answer(150, 300, due_s=0.5)  # tokens from 0.65 s to 6.65 s
    late = answer(100, 50, due_s=4.5)  # from 4.6 s to 5.6 s
    lost = answer(100, 900, due_s=4.6, error="broken")
    found = by_rate([long, late, lost], {1 / 3: range(1), 2 / 3: range(1, 3)})
    first, second = found[1 / 3], found[2 / 3]
    assert first.gaps_s == pytest.approx([0.3] * 6)  # of the seconds from 1 to 3: before, what was there earlier leaves
    assert sorted(second.gaps_s) == pytest.approx([0.05] * 20 + [0.3] * 6)  # from 4 to 6
    assert pooled([found, found])[1 / 3].gaps_s == pytest.approx([0.3] * 12)


def served(rate: float, per_s: float, seconds: float, takes_s: float = 0.5) -> Rung:
    """By somebody who answers so many a second, one after the other; each takes so long beside that."""
    due_s = [number / rate for number in range(1, round(rate * seconds) + 1)]
    answers, free_s = [], 0.0
    for each_s in due_s:
        free_s = max(free_s, each_s) + 1 / per_s
        wait_ms = 1000 * (free_s - each_s)
        answers.append(answer(wait_ms, 1000 * takes_s / 20, due_s=each_s))
    return by_rate(answers, {rate: range(len(due_s))})[rate]


def test_who_answers_less_than_comes_does_not_keep_up() -> None:
    """Of five rounds, since one of so few requests leaves it to chance."""
    kept, piled = (pooled([{rate: served(rate, 1.9, seconds=8)}] * 5)[rate] for rate in (1.8, 3.0))
    assert kept.keeps_up
    assert kept.begun_per_s == pytest.approx(1.8, abs=0.2)
    assert not piled.keeps_up
    assert piled.begun_per_s == pytest.approx(1.9, abs=0.2)
    assert max(each.waited_s for each in piled.answers) < 5  # so it passes by the time to the first token


def test_who_comes_as_a_rung_ends_does_not_wait_yet() -> None:
    rung = by_rate([answer(100, 1, due_s=each_s) for each_s in (1.0, 2.0, 3.0)], {1.0: range(3)})[1.0]
    assert (rung.before, rung.after, rung.due) == (0, 0, 2)


def test_answers_that_last_long_are_no_backlog() -> None:
    """At first there are ever more of them, until the first have ended; whoever comes is answered all the same."""
    lasting = served(1.4, per_s=20, seconds=15, takes_s=8)
    assert sum(each.due_s <= 5 < each.ended_s for each in lasting.answers) == 7
    assert sum(each.due_s <= 15 < each.ended_s for each in lasting.answers) > 10
    assert lasting.keeps_up


@pytest.mark.parametrize(
    ("due", "before", "after", "keeps_up"),
    [
        (100, 40, 62, True),  # 57 without the twentieth: of 97 so many or more are that part once in 19 times
        (100, 40, 63, False),  # once in 23 times
        (10, 0, 4, True),  # once in 16 times
        (10, 0, 5, False),
        (100, 0, 0, True),
        (100, 50, 10, True),
    ],
)
def test_what_chance_leaves_over_is_no_backlog(due: int, before: int, after: int, keeps_up: bool) -> None:
    assert Rung([], due=due, before=before, after=after, watched_s=50).keeps_up == keeps_up


def test_a_burst_tells_how_much_is_answered_at_most() -> None:
    burst = [answer(1000, 50), answer(3000, 50), answer(1, 1, error="broken")]
    assert answered_per_s([burst]) == pytest.approx(2 / 4)
    assert answered_per_s([burst, [answer(1000, 50)]]) == pytest.approx(3 / 6)  # all answers over all the time


def test_nobody_always_comes_after_the_same_one() -> None:
    sides = ["a", "b", "c", "d"]
    orders = [in_turn(sides, turn, "seed") for turn in range(8)]
    assert all(sorted(order) == sides for order in orders)
    assert all(orders[turn] == orders[turn + 1][::-1] for turn in (0, 2, 4, 6))
    assert len(set(map(tuple, orders))) > 4
    before_b = [order[order.index("b") - 1] for order in orders if order[0] != "b"]
    assert len(set(before_b)) > 1


SPLITS = ("split", "split+steal")
MONOS = ("mono", "mono-x2", "mono-calibrated", "mono-x2-calibrated")


def test_the_documents_plan_takes_two_hours_and_a_half_and_the_quick_one_a_minute() -> None:
    workloads = tuple(MIXES[name] for name in ("text", "1img", "4img"))
    compared = Plan((*MONOS, *SPLITS), workloads, DEFAULT)
    assert 110 < compared.about_minutes(groups=2, sides=7) <= 150
    assert Plan(("mono", "split"), workloads[1:2], QUICK).about_minutes(groups=0, sides=2) <= 1
    everything = Plan((*MONOS, "vllm-epd", *SPLITS), (*workloads, MIXES["2img"]), FULL)
    assert everything.about_minutes(groups=2, sides=8) <= 360


@pytest.mark.parametrize("amounts", [DEFAULT, FULL])
def test_a_rate_is_long_enough_to_break_the_objectives_and_has_samples_for_its_tail(amounts: Amounts) -> None:
    plan = Plan(SPLITS, (MIXES["text"],), amounts, objectives=Objectives(ttft_ms=7000, itl_ms=300))
    assert amounts.rounds >= 5
    assert amounts.rounds * amounts.least >= 20
    assert plan.rung_s == 21
    assert max(each.ttft_ms for each in plan.grid("text")) == 7000
    assert (7000, 300) in {(each.ttft_ms, each.itl_ms) for each in plan.grid("text")}


def test_a_workload_may_have_an_objective_of_its_own() -> None:
    plan = Plan(SPLITS, (MIXES["text"], MIXES["4img"]), DEFAULT, own_ttft_ms={"4img": 20000.0})
    for workload, ttft_ms in (("text", plan.objectives.ttft_ms), ("4img", 20000)):
        quoted = plan.objectives_for(workload)
        assert quoted == Objectives(ttft_ms, plan.objectives.itl_ms)
        assert quoted in plan.grid(workload)
        assert max(each.ttft_ms for each in plan.grid(workload)) == ttft_ms


def test_the_journal_knows_what_decides_the_figures() -> None:
    plan = Plan(("mono",), (MIXES["text"],), DEFAULT)
    assert plan.settings() == Plan(("mono",), (MIXES["text"],), DEFAULT).settings()
    assert plan.settings() != Plan(("mono",), (MIXES["1img"],), DEFAULT).settings()
    assert plan.settings() != Plan(("mono",), (MIXES["text"],), DEFAULT, pace=2).settings()
    assert plan.settings() != Plan(("mono",), (MIXES["text"],), FULL).settings()
