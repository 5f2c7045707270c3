"""Who is asked what, in which order, and what a journal spares; two played engines stand for the two sides."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest
from played_engine import PlayedEngine, playing
from rich.progress import Progress

import bench.vllm_epd.run
from bench.load.answers import Answer
from bench.load.asking import Endpoint
from bench.load.journal import Journal
from bench.streams import Unanswered
from bench.vllm_epd.figures import OURS, THEIRS
from bench.vllm_epd.plan import CAPACITY, SETTLE_S, Level, Plan, Point
from bench.vllm_epd.run import Run

PLAN = Plan(rounds=2, images=(1, 4), levels=(Level.LOW, Level.ALL_AT_ONCE), window_s=0.1, requests=(2, 3))


@pytest.fixture(autouse=True)
def no_settling(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    waited: list[float] = []
    monkeypatch.setattr(bench.vllm_epd.run, "time", SimpleNamespace(sleep=waited.append))
    return waited


@contextmanager
def sides(ours: PlayedEngine, theirs: PlayedEngine) -> Iterator[dict[str, Endpoint]]:
    with playing(ours), playing(theirs):
        yield {side: Endpoint(engine.url, "played") for side, engine in ((OURS, ours), (THEIRS, theirs))}


def measured(endpoints: dict[str, Endpoint], journal: Journal | None = None, plan: Plan = PLAN) -> Run:
    with Progress(disable=True) as progress:
        run = Run(plan, endpoints, journal, progress)
        run.measure()
        [task] = progress.tasks
        assert task.finished
    return run


def test_both_sides_are_asked_the_same_and_take_turns(no_settling: list[float]) -> None:
    ours, theirs = PlayedEngine(), PlayedEngine()
    with sides(ours, theirs) as endpoints:
        run = measured(endpoints)
    order = [(row["round"], row["images"], row["arrangement"], row["load"]) for row in run.series]
    assert order == [
        (number, images, side, level.value)
        for number in (1, 2)
        for images in (1, 4)
        for side in ((OURS, THEIRS) if number == 1 else (THEIRS, OURS))
        for level in PLAN.levels
    ]
    bodies = [sorted(json.dumps(body["messages"]) for body in engine.asked) for engine in (ours, theirs)]
    assert bodies[0] == bodies[1]
    assert len(set(bodies[0])) == len(bodies[0])
    assert all(row["failed"] == 0 and row["completed"] >= 2 for row in run.series)
    # A pause wherever the other side's turn comes: three for what they can do, four in the first round, then three.
    assert no_settling == [SETTLE_S] * 10


def test_rates_are_parts_of_what_theirs_can_do(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal", {})
    for side, seconds in ((OURS, 0.001), (THEIRS, 0.01)):
        answers = [Answer(number, "1img", 0.0, 0.0, (seconds,), seconds, 9, 1) for number in range(3)]
        journal.put(f"{Point(1, Level.ALL_AT_ONCE, CAPACITY).name}, {side}", answers)
    plan = Plan(rounds=1, images=(1,), levels=(Level.LOW,), window_s=0.1, requests=(2, 3))
    with sides(PlayedEngine(), PlayedEngine()) as endpoints:
        run = measured(endpoints, journal, plan)
    assert [row["requests_per_s"] for row in run.series] == [pytest.approx(0.3 * 300)] * 2


def test_what_a_journal_has_is_not_measured_again(tmp_path: Path) -> None:
    with sides(PlayedEngine(), PlayedEngine()) as endpoints:
        first = measured(endpoints, Journal(tmp_path, {}))
    missing = tmp_path / next(path.name for path in tmp_path.iterdir() if "round 2, split" in path.name)
    missing.unlink()
    ours, theirs = PlayedEngine(), PlayedEngine()
    with sides(ours, theirs) as endpoints:
        again = measured(endpoints, Journal(tmp_path, {}))
    assert missing.exists()
    assert 2 + 2 <= len(ours.asked) <= 2 + 3  # it was cold, so two came before
    assert theirs.asked == []
    assert len(again.series) == len(first.series)
    assert sum(old == new for old, new in zip(first.series, again.series, strict=True)) == len(first.series) - 1


def test_a_side_that_answers_nothing_ends_the_run() -> None:
    with (
        sides(PlayedEngine(), PlayedEngine(status=503)) as endpoints,
        pytest.raises(Unanswered, match=r"none of 3 requests .*round 0, vllm-epd.*no room"),
    ):
        measured(endpoints)
