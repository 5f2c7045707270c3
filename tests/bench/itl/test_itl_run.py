"""What is not kept as finished, because going on with it would measure nothing."""

from typing import Any

import pytest
from made_slots import BYSTANDER, DRIVE, PICTURE, answer

from bench.itl import run
from bench.itl.sides import Side
from bench.itl.slots import Unmeasurable
from bench.load.answers import Answer

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
