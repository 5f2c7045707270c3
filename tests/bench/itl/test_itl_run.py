"""What is not kept as finished, because going on with it would measure nothing."""

from pathlib import Path
from typing import Any

import pytest
from made_slots import BYSTANDER, DRIVE, PICTURE, answer
from rich.console import Console

from bench.itl import run
from bench.itl.plan import QUICK
from bench.itl.sides import Side
from bench.itl.slots import Unmeasurable
from bench.load.answers import Answer
from bench.load.journal import OtherRun, Spoilt

REFUSED = answer(PICTURE.name, 0.0, (), prompt_tokens=None, error="answered 400: too long")
GONE = answer(BYSTANDER, 0.0, (), prompt_tokens=None, error="connection refused")
ANSWERED = answer(BYSTANDER, 0.0, (0.1, 0.2))


@pytest.fixture
def side(monkeypatch: pytest.MonkeyPatch) -> Side:
    nobody: Any = None
    monkeypatch.setattr("bench.itl.traffic.carriers", lambda *_: [])
    return Side("split", lambda: nobody, nobody, encoded=False)


def answering(monkeypatch: pytest.MonkeyPatch, *answers: Answer) -> None:
    monkeypatch.setattr("bench.itl.traffic.run", lambda *_: list(answers))


def test_a_pilot_whose_carrier_failed_is_not_kept(side: Side, monkeypatch: pytest.MonkeyPatch) -> None:
    answering(monkeypatch, ANSWERED, REFUSED)
    with pytest.raises(Unmeasurable, match="largest carrier failed on split: answered 400"):
        run._piloted(run.Step(0, "split", DRIVE), side)


def test_a_drive_that_nobody_answered_is_not_kept(side: Side, monkeypatch: pytest.MonkeyPatch) -> None:
    step = run.Step(1, "split", DRIVE)
    answering(monkeypatch, GONE, REFUSED)
    with pytest.raises(Unmeasurable, match=r"split answers nothing \(block 1, split, loads\).+connection refused"):
        run._measured(step, side, lambda _: None)
    answering(monkeypatch, ANSWERED, REFUSED)
    assert run._measured(step, side, lambda _: None) == [ANSWERED, REFUSED]


class EncodesTwice:
    """A subject whose cluster lost embeddings."""

    sides = ("split",)

    def described(self) -> dict[str, Any]:
        return {}

    def up(self) -> Any:
        raise Spoilt("Embeddings were lost.")


def test_nobody_goes_on_with_a_run_that_does_not_count(tmp_path: Path) -> None:
    subject: Any = EncodesTwice()
    with pytest.raises(Spoilt):
        run.measure(QUICK, subject, tmp_path, Console(quiet=True))
    with pytest.raises(OtherRun, match="does not count: Embeddings were lost"):
        run.measure(QUICK, subject, tmp_path, Console(quiet=True))
