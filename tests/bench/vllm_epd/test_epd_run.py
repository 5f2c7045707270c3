"""Who is asked what, in which order, and what a journal spares; two played engines stand for the two sides."""

import json
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest
from played_engine import PlayedEngine, playing
from rich.progress import Progress

import bench.vllm_epd.run
from bench.load.answers import Answer
from bench.load.journal import Journal
from bench.streams import Unanswered
from bench.topologies.running import Remote, Running
from bench.vllm_epd.figures import OURS, THEIRS
from bench.vllm_epd.plan import CAPACITY, SETTLE_S, WARM_UP, Level, Plan, Point
from bench.vllm_epd.run import Run

pytestmark = pytest.mark.slow

LEVELS = (Level.HIGH, Level.ALL_AT_ONCE)
PLAN = Plan(rounds=2, levels={1: LEVELS, 2: LEVELS}, paced=2, at_once=3, burst=4)


@pytest.fixture(autouse=True)
def no_settling(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    waited: list[float] = []
    clock = SimpleNamespace(sleep=waited.append, monotonic=time.monotonic)
    monkeypatch.setattr(bench.vllm_epd.run, "time", clock)
    return waited


@contextmanager
def sides(ours: PlayedEngine, theirs: PlayedEngine) -> Iterator[dict[str, Remote]]:
    with playing(ours), playing(theirs):
        running = {OURS: Remote(ours.url), THEIRS: Remote(theirs.url)}
        for one in running.values():
            one.wait_ready()
        yield running


def measured(running: Mapping[str, Running], journal: Journal, plan: Plan = PLAN) -> Run:
    with Progress(disable=True) as progress:
        run = Run(plan, running, journal, progress)
        run.measure()
        [task] = progress.tasks
        assert task.finished
    return run


def test_both_sides_are_asked_the_same_and_take_turns(no_settling: list[float], tmp_path: Path) -> None:
    ours, theirs = PlayedEngine(), PlayedEngine()
    with sides(ours, theirs) as running:
        run = measured(running, Journal(tmp_path, {}))
    order = [(row["round"], row["images"], row["arrangement"], row["load"]) for row in run.series]
    assert order == [
        (number, images, side, level.value)
        for number in (1, 2)
        for images in (1, 2)
        for side in ((OURS, THEIRS) if number == 1 else (THEIRS, OURS))
        for level in LEVELS
    ]
    bodies = [[json.dumps(body["messages"]) for body in engine.asked] for engine in (ours, theirs)]
    assert len(set(bodies[0])) == len(bodies[0]) == len(bodies[1])
    # Each is warmed up for each number of pictures, by requests of its own.
    assert len(set(bodies[0]) - set(bodies[1])) == len(set(bodies[1]) - set(bodies[0])) == 2 * WARM_UP
    assert all(row["failed"] == 0 and row["completed"] >= 2 for row in run.series)
    assert all(row["other_cores"] > 0 for row in run.series)  # who asks is among them
    # A pause wherever the other side's turn comes: three for what they can do, four in the first round, then three.
    assert no_settling == [SETTLE_S] * 10


def test_rates_are_parts_of_what_theirs_can_do(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal", {})
    for side, seconds in ((OURS, 0.001), (THEIRS, 0.01)):
        answers = [Answer(number, "1img", 0.0, 0.0, (seconds,), seconds, 9, 1) for number in range(3)]
        journal.put(f"{Point(1, Level.ALL_AT_ONCE, CAPACITY).name}, {side}", answers)
    plan = Plan(rounds=1, levels={1: (Level.HIGH,)}, paced=2, at_once=3, burst=4)
    with sides(PlayedEngine(), PlayedEngine()) as running:
        run = measured(running, journal, plan)
    assert [row["requests_per_s"] for row in run.series] == [pytest.approx(0.9 * 300)] * 2


def test_what_a_journal_has_is_not_measured_again(tmp_path: Path) -> None:
    with sides(PlayedEngine(), PlayedEngine()) as running:
        first = measured(running, Journal(tmp_path, {}))
    missing = next(iter(tmp_path.glob("*round 2, split.answers*")))
    missing.unlink()
    ours, theirs = PlayedEngine(), PlayedEngine()
    with sides(ours, theirs) as running:
        again = measured(running, Journal(tmp_path, {}))
    assert missing.exists()
    assert WARM_UP + 2 <= len(ours.asked) <= WARM_UP + 3  # it was cold
    assert theirs.asked == []
    assert len(again.series) == len(first.series)
    assert sum(old == new for old, new in zip(first.series, again.series, strict=True)) == len(first.series) - 1


def test_a_side_that_answers_nothing_ends_the_run_and_is_asked_again_by_the_next(tmp_path: Path) -> None:
    with (
        sides(PlayedEngine(), PlayedEngine(status=503)) as running,
        pytest.raises(Unanswered, match=r"none of 4 requests .*round 0, vllm-epd.*no room"),
    ):
        measured(running, Journal(tmp_path, {}))
    with sides(PlayedEngine(), PlayedEngine()) as running:
        assert measured(running, Journal(tmp_path, {})).series


def test_a_proxy_that_had_to_ask_twice_ends_the_run_and_its_point_does_not_count(tmp_path: Path) -> None:
    class Twice(Remote):
        def retries(self) -> int:
            return 3

    with sides(PlayedEngine(), PlayedEngine()) as running:
        twice = Twice(running[THEIRS].name)
        twice.wait_ready()
        with pytest.raises(Unanswered, match="3 times more"):
            measured({**running, THEIRS: twice}, Journal(tmp_path, {}))
    assert [path.name for path in tmp_path.glob("*vllm-epd.answers*")] == []
