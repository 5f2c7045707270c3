"""A comparison of servers that are played: who is asked what, in which order, and what is kept."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from played_server import MODEL, Played, playing
from rich.console import Console
from rich.progress import Progress

from bench.load.asking import Endpoint
from bench.load.journal import Journal
from bench.load.workloads import MIXES
from bench.serve.measured import Measured
from bench.serve.plan import Amounts, Dose, Plan
from bench.serve.run import WARM_UP, Comparison
from bench.streams import Unanswered

BURST = 6
AMOUNTS = Amounts(rungs=(20.0, 40.0), rounds=3, doses={}, other=Dose(BURST, 0.0), settle_s=0.0)
PLAN = Plan(("mono", "split"), (replace(MIXES["text"], output_tokens=(2, 4)),), AMOUNTS)


class Stage:
    """Has played servers up, and notes which it was asked for."""

    def __init__(self, **servers: Played) -> None:
        self.servers = servers
        self.started: list[list[str]] = []

    @contextmanager
    def start(self, sides: Sequence[str]) -> Iterator[Mapping[str, Endpoint]]:
        self.started.append(list(sides))
        yield {side: Endpoint(self.servers[side].url, MODEL) for side in sides}


@pytest.fixture
def stage() -> Iterator[Stage]:
    with playing(Played()) as mono, playing(Played()) as split:
        yield Stage(mono=mono, split=split)


def compare(stage: Stage, folder: Path, plan: Plan = PLAN, groups: Sequence[Sequence[str]] = (PLAN.sides,)) -> Measured:
    with Progress(console=Console(quiet=True)) as progress:
        return Comparison(plan, groups, Journal(folder, plan.settings()), progress).measure(stage.start)


def test_every_side_gets_the_same_requests_of_every_workload(stage: Stage, tmp_path: Path) -> None:
    plan = replace(PLAN, workloads=(*PLAN.workloads, replace(MIXES["1img"], output_tokens=(2, 4))))
    measured = compare(stage, tmp_path, plan)
    assert list(measured.contests) == ["text", "1img"]
    for contest in measured.contests.values():
        assert list(contest.sides) == ["mono", "split"]
        assert [rate / contest.capacity for rate in contest.ladder] == pytest.approx([20.0, 40.0], rel=0.01)
        for side in contest.sides.values():
            assert len(side.burst) == BURST
            assert [{rate: len(answers) for rate, answers in each.items()} for each in side.rounds] == [
                dict.fromkeys(contest.ladder, 1)
            ] * 3
    one, other = ([body["messages"] for body in server.asked] for server in stage.servers.values())
    assert len(one) == 2 * (WARM_UP + BURST + 3 * 2)
    assert sorted(map(str, one)) == sorted(map(str, other))
    assert len(set(map(str, one))) == len(one)  # nothing comes twice, for caches would know it


def test_sides_take_turns_round_by_round(stage: Stage, tmp_path: Path) -> None:
    order = []

    class Telling(Journal):
        def put(self, point, answers):  # type: ignore[no-untyped-def]
            order.append(point.partition(", ")[2])
            super().put(point, answers)

    with Progress(console=Console(quiet=True)) as progress:
        Comparison(PLAN, [PLAN.sides], Telling(tmp_path, PLAN.settings()), progress).measure(stage.start)
    assert order == [
        *("mono, at once", "split, at once"),
        *("mono, round 1", "split, round 1"),
        *("split, round 2", "mono, round 2"),
        *("mono, round 3", "split, round 3"),
    ]


def test_what_the_journal_has_is_not_measured_again(stage: Stage, tmp_path: Path) -> None:
    first = compare(stage, tmp_path)
    asked = len(stage.servers["mono"].asked)
    again = compare(stage, tmp_path)
    assert stage.started == [["mono", "split"]]
    assert len(stage.servers["mono"].asked) == asked
    assert again == first


def test_an_interrupted_comparison_measures_the_rest(stage: Stage, tmp_path: Path) -> None:
    first = compare(stage, tmp_path)
    [lost] = [file for file in tmp_path.iterdir() if "split, round 2" in file.name]
    lost.unlink()
    before = {name: len(server.asked) for name, server in stage.servers.items()}
    again = compare(stage, tmp_path)
    new = {name: len(server.asked) - before[name] for name, server in stage.servers.items()}
    assert new == {"mono": WARM_UP, "split": WARM_UP + 2}
    assert again.contests["text"].ladder == first.contests["text"].ladder
    assert again.contests["text"].sides["mono"] == first.contests["text"].sides["mono"]


def test_the_first_groups_rates_hold_for_the_others(stage: Stage, tmp_path: Path) -> None:
    with playing(Played()) as x2:
        stage.servers["mono-x2"] = x2
        measured = compare(stage, tmp_path, groups=[["mono", "split"], ["mono", "mono-x2"]])
    assert stage.started == [["mono", "split"], ["mono", "mono-x2"]]
    sides = measured.contests["text"].sides
    assert list(sides) == ["mono", "split", "mono again", "mono-x2"]
    assert len({tuple(side.pooled) for side in sides.values()}) == 1
    assert [side.name for side in sides.values() if side.monolithic] == ["mono", "mono-x2"]


def test_a_server_that_answers_nothing_ends_the_run_with_its_own_words(tmp_path: Path) -> None:
    with (
        playing(Played(refuses=1000)) as mono,
        pytest.raises(Unanswered, match=r"mono answers no request of text.*no images, please"),
    ):
        compare(Stage(mono=mono), tmp_path, replace(PLAN, sides=("mono",)), [["mono"]])
