"""A comparison of servers that are played: who is asked what, in which order, and what is kept."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
from played_server import MODEL, Played, playing
from rich.console import Console
from rich.progress import Progress

from bench.load.asking import Endpoint
from bench.load.goodput import Objectives
from bench.load.journal import Journal, OtherRun, Spoilt
from bench.load.workloads import MIXES
from bench.serve.measured import Measured
from bench.serve.plan import Amounts, Dose, Plan
from bench.serve.run import Comparison
from bench.serve.staircase import answered_per_s, up_to
from bench.streams import Unanswered
from bench.topologies.setting import first_two_cores
from bench.topologies.turns import Wake

pytestmark = pytest.mark.slow

BURST = 6
HALVES = first_two_cores()
AMOUNTS = Amounts(rounds=3, doses={}, other=Dose(BURST, (0.5, 0.9)), rung_s=0.0, pooled=1, settle_s=0.0)
PLAN = Plan(("mono", "split"), (replace(MIXES["text"], output_tokens=(2, 4)),), AMOUNTS)


class Stage:
    """Has played servers up, and notes which it was asked for."""

    def __init__(self, **servers: Played) -> None:
        self.servers = servers
        self.started: list[list[str]] = []

    @contextmanager
    def start(self, sides: Sequence[str]) -> Iterator[Mapping[str, Wake]]:
        self.started.append(list(sides))
        yield {side: partial(Endpoint, self.servers[side].url, MODEL) for side in sides}


@pytest.fixture
def stage() -> Iterator[Stage]:
    with playing(Played()) as mono, playing(Played()) as split:
        yield Stage(mono=mono, split=split)


def compare(stage: Stage, folder: Path, plan: Plan = PLAN, groups: Sequence[Sequence[str]] | None = None) -> Measured:
    with Progress(console=Console(quiet=True)) as progress:
        journal = Journal(folder, plan.settings())
        return Comparison(plan, groups or [plan.sides], HALVES, journal, progress).measure(stage.start)


class Losing(Stage):
    """What is up turns out, in the end, not to have been what it stands for."""

    @contextmanager
    def start(self, sides: Sequence[str]) -> Iterator[Mapping[str, Wake]]:
        with super().start(sides) as wake:
            yield wake
        raise Spoilt("Its pace was lost. Measure all again.")


def test_nobody_goes_on_with_a_run_that_does_not_count(stage: Stage, tmp_path: Path) -> None:
    with pytest.raises(Spoilt):
        compare(Losing(**stage.servers), tmp_path)
    with pytest.raises(OtherRun, match="Its pace was lost"):
        compare(stage, tmp_path)


def test_every_side_gets_the_same_requests_of_every_workload(stage: Stage, tmp_path: Path) -> None:
    plan = replace(PLAN, workloads=(*PLAN.workloads, replace(MIXES["1img"], output_tokens=(2, 4))))
    measured = compare(stage, tmp_path, plan)
    assert list(measured.contests) == ["text", "1img"]
    for contest in measured.contests.values():
        assert list(contest.sides) == ["mono", "split"]
        assert [rate / contest.capacity for rate in contest.ladder] == pytest.approx([0.5, 0.9], rel=0.01)
        for side in contest.sides.values():
            assert [len(burst) for burst in side.bursts] == [BURST] * 3
            assert [len(shares) for shares in side.busy] == [len(HALVES)] * 3
            assert any(share > 0 for shares in side.busy for share in shares)
            seen = up_to(contest.ladder, answered_per_s(side.bursts[:1]))
            assert [{rate: len(rung.answers) for rate, rung in each.items()} for each in side.rounds] == [
                dict.fromkeys(seen, 1)
            ] * 3
    one, other = ({str(body["messages"]) for body in server.asked} for server in stage.servers.values())
    assert one <= other or other <= one  # who is slower, is not asked at rates that are far beyond it
    for server in stage.servers.values():
        said = [str(body["messages"]) for body in server.asked]
        assert len(said) >= 2 * (BURST + 3 * (BURST + 1))
        assert len(set(said)) == len(said)  # nothing comes twice, for caches would know it


def test_sides_take_turns_round_by_round(stage: Stage, tmp_path: Path) -> None:
    order = []

    class Telling(Journal):
        def put(self, point, answers):  # type: ignore[no-untyped-def]
            order.append(point.partition(", ")[2])
            super().put(point, answers)

    with Progress(console=Console(quiet=True)) as progress:
        Comparison(PLAN, [PLAN.sides], HALVES, Telling(tmp_path, PLAN.settings()), progress).measure(stage.start)
    assert order[:2] == ["mono, at once 1", "split, at once 1"]
    first, second, third = order[2:4], order[4:8], order[8:]
    assert set(first) == {"mono, round 1", "split, round 1"}
    for number, each in ((2, second), (3, third)):
        assert set(each) == {f"{side}, {what} {number}" for side in ("mono", "split") for what in ("at once", "round")}
        assert [one.partition(", ")[2] for one in each] == [f"at once {number}", f"round {number}"] * 2
    assert [one.partition(",")[0] for one in second[::2]] == [one.partition(",")[0] for one in first[::-1]]


def test_what_the_journal_has_is_not_measured_again(stage: Stage, tmp_path: Path) -> None:
    first = compare(stage, tmp_path)
    asked = len(stage.servers["mono"].asked)
    again = compare(stage, tmp_path)
    assert stage.started == [["mono", "split"]]
    assert len(stage.servers["mono"].asked) == asked
    assert again == first


def test_an_interrupted_comparison_measures_the_rest(stage: Stage, tmp_path: Path) -> None:
    first = compare(stage, tmp_path)
    [lost] = [file for file in tmp_path.iterdir() if "split, round 2.answers" in file.name]
    lost.unlink()
    before = {name: len(server.asked) for name, server in stage.servers.items()}
    again = compare(stage, tmp_path)
    new = {name: len(server.asked) - before[name] for name, server in stage.servers.items()}
    assert new["mono"] == BURST  # to warm up
    assert new["split"] in (BURST + 1, BURST + 2)
    assert again.contests["text"].ladder == first.contests["text"].ladder
    assert again.contests["text"].sides["mono"] == first.contests["text"].sides["mono"]


def test_the_first_groups_rates_hold_for_the_others(stage: Stage, tmp_path: Path) -> None:
    with playing(Played()) as x2:
        stage.servers["mono-x2"] = x2
        measured = compare(stage, tmp_path, groups=[["mono", "split"], ["mono", "mono-x2"]])
    assert stage.started == [["mono", "split"], ["mono", "mono-x2"]]
    sides = measured.contests["text"].sides
    again = measured.contests["text"].again
    assert (list(sides), list(again)) == (["mono", "split", "mono-x2"], ["mono again 1"])
    assert [len(burst) for burst in again["mono again 1"].bursts] == [BURST] * 3
    assert again["mono again 1"].rounds == []  # how fast it answers at once tells enough
    asked = [str(body["messages"]) for body in stage.servers["mono"].asked]
    assert len(set(asked)) == len(asked)  # whoever was not stopped might know them
    assert all(set(side.pooled) <= set(measured.contests["text"].ladder) for side in sides.values())
    assert [side.name for side in sides.values() if side.monolithic] == ["mono", "mono-x2"]


def test_a_server_that_answers_nothing_ends_the_run_with_its_own_words(tmp_path: Path) -> None:
    with (
        playing(Played(refuses=1000)) as mono,
        pytest.raises(Unanswered, match=r"mono answers no request of text.*no images, please"),
    ):
        compare(Stage(mono=mono), tmp_path, replace(PLAN, sides=("mono",)))


def test_who_is_overloaded_has_no_goodput_beyond_what_it_answers(tmp_path: Path) -> None:
    """Five a second at most, one after the other; for a second and a half come many more. Nobody waits long."""
    amounts = Amounts(rounds=2, doses={}, other=Dose(12, (0.9,)), rung_s=1.5, pooled=1, settle_s=0.0)
    plan = replace(PLAN, amounts=amounts, objectives=Objectives(60_000, 60_000))
    with playing(Played(busy_s=0.05)) as fast, playing(Played(busy_s=0.2)) as slow:
        measured = compare(Stage(mono=fast, split=slow), tmp_path, plan)
    contest = measured.contests["text"]
    pooled = contest.sides["split"].pooled
    assert max(pooled) > 5  # requests/s, all of which are answered in the end
    assert not pooled[max(pooled)].keeps_up
    assert contest.climbs["split"].goodput(plan.objectives) <= 5
