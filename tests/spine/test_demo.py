"""The demo's verdict and its end, with engines and a cluster that only look like such."""

import contextlib
import io
import threading
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console

import chiasm.demo
import chiasm.unsplit
from chiasm.cluster import ClusterFailed
from chiasm.config import ClusterConfig
from chiasm.demo import CASES, Answer, Case, run_demo
from chiasm.engine import EngineFailed, EngineSpec
from chiasm.member import MemberProgress

FACTS = SimpleNamespace(model="/model", name="model")
READY = [MemberProgress("encoder-0", "ready", 1.0, ready=True, restarts=0, error=None)]
START_S = 5.0  # what the unsplit engine takes if nobody stops it: minutes, in life


class FakeEngine:
    """An unsplit engine that is ready when `ready` is set, and ends when it is stopped."""

    url = "http://whole"
    stage = "loading weights"

    def __init__(self, spec: EngineSpec, log: Callable[[str], None]) -> None:
        self.spec = spec
        self.ready = threading.Event()
        self.stopped = False
        self.started = False

    def wait_ready(self, timeout_s: float) -> None:
        self.started = not self.ready.wait(START_S) or not self.stopped
        if not self.started:
            raise EngineFailed("whole ended with exit code 0")

    def stop(self) -> None:
        self.stopped = True
        self.ready.set()


class FakeCluster:
    """A split cluster that comes up at once, or ends so."""

    url = "http://split"

    def __init__(self) -> None:
        self.stopped = False
        self.end: BaseException | None = None

    def start(self) -> None: ...

    def wait_ready(self, on_progress: Callable[[list[MemberProgress]], None]) -> None:
        on_progress(READY)
        if self.end is not None:
            raise self.end

    def stop(self) -> None:
        self.stopped = True


class Stage:
    """The demo's surroundings, and what it has printed."""

    def __init__(self) -> None:
        self.cluster = FakeCluster()
        self.engines: list[FakeEngine] = []
        self._output = io.StringIO()
        self.console = Console(file=self._output, width=100)
        self.said: dict[tuple[str, Case], Answer] = {}

    def make_engine(self, spec: EngineSpec, log: Callable[[str], None]) -> FakeEngine:
        self.engines.append(FakeEngine(spec, log))
        if self.cluster.end is None:
            self.engines[0].ready.set()
        return self.engines[0]

    def ask(self, url: str, _token: str | None, _model: str, case: Case) -> Answer:
        return self.said.get((url, case), Answer(case.truth, [1, 2], 0.1, {"encode": 3.0}))

    def run(self) -> None:
        run_demo(self.console, exit_after=True, port=0, verbose=False)

    @property
    def printed(self) -> str:
        return self._output.getvalue()

    def row_of(self, case: Case) -> str:
        """The first line of the case's row in the table."""
        begins = (case.pictures[0], case.question[:18])
        [row] = [line for line in self.printed.splitlines() if all(text in line for text in begins)]
        return row


@pytest.fixture
def stage(monkeypatch: pytest.MonkeyPatch) -> Iterator[Stage]:
    stage = Stage()
    demo: Any = chiasm.demo
    monkeypatch.setattr(demo, "prepare", lambda config: (config, FACTS))
    monkeypatch.setattr(demo, "ray_session", lambda *_: contextlib.nullcontext())
    monkeypatch.setattr(demo, "Cluster", lambda _config, _facts, one_machine: stage.cluster)
    monkeypatch.setattr(demo, "ask", stage.ask)
    monkeypatch.setattr(demo, "get_json", lambda *_: {"counters": {"decoded": len(CASES)}})
    monkeypatch.setattr(demo, "POLLING_S", 0)
    monkeypatch.setattr(chiasm.unsplit, "Engine", stage.make_engine)
    yield stage
    assert stage.cluster.stopped
    assert all(engine.stopped for engine in stage.engines)


def test_all_true_and_equal_is_a_success(stage: Stage) -> None:
    stage.run()
    assert f"{len(CASES)} of {len(CASES)} answers true; {len(CASES)} equal" in stage.printed
    assert stage.printed.count("✓") == len(CASES)


def test_a_false_answer_fails_and_is_pointed_at(stage: Stage) -> None:
    """Also where the unsplit engine says the same."""
    wrong = CASES[0]
    for url in ("http://split", "http://whole"):
        stage.said[url, wrong] = Answer("blue", [7], 0.1, {})
    with pytest.raises(SystemExit) as ended:
        stage.run()
    assert ended.value.code == 1
    assert f"✗ {wrong.truth}" in stage.row_of(wrong)
    assert "✓" in stage.row_of(CASES[1])
    assert f"{len(CASES) - 1} of {len(CASES)} answers true; {len(CASES)} equal" in stage.printed


def test_an_unequal_answer_fails_and_is_pointed_at(stage: Stage) -> None:
    """Tokens count, not the text that they spell."""
    unequal = CASES[1]
    stage.said["http://whole", unequal] = Answer(unequal.truth, [1, 2, 3], 0.1, {})
    with pytest.raises(SystemExit) as ended:
        stage.run()
    assert ended.value.code == 1
    assert "whole:" in stage.row_of(unequal)
    assert "✓" in stage.row_of(CASES[0])
    assert f"{len(CASES)} of {len(CASES)} answers true; {len(CASES) - 1} equal" in stage.printed


@pytest.mark.parametrize(
    ("end", "expected"), [(KeyboardInterrupt(), KeyboardInterrupt), (ClusterFailed("no room"), SystemExit)], ids=repr
)
def test_an_end_while_engines_start_is_waited_for_by_nobody(
    stage: Stage, end: BaseException, expected: type[BaseException]
) -> None:
    """The unsplit engine may have minutes to go; it is stopped at once."""
    stage.cluster.end = end
    with pytest.raises(expected):
        stage.run()
    [engine] = stage.engines
    assert not engine.started


def test_the_unsplit_engine_has_the_clusters_model_and_a_token_of_its_own(stage: Stage) -> None:
    stage.run()
    [engine] = stage.engines
    assert (engine.spec.model, engine.spec.served_name) == (FACTS.model, FACTS.name)
    assert engine.spec.args == tuple(ClusterConfig().decoders.engine_args)
    assert len(engine.spec.token) > 16
