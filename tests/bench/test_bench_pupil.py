"""How the examination of the built-in model ends where nobody answers, and what the card makes of its figures."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from click.testing import CliRunner, Result

import bench.pupil
from bench.pupil import Said, card_table, pupil
from chiasm.engine import EngineFailed

pytest.importorskip("matplotlib")


def run(*arguments: str) -> Result:
    return CliRunner().invoke(pupil, ["--number", "1", *arguments])


def test_an_endpoint_that_cannot_be_reached_is_named() -> None:
    result = run("--endpoint", "http://127.0.0.1:1")
    assert (result.exit_code, type(result.exception)) == (1, SystemExit)
    assert "no answer from http://127.0.0.1:1" in result.output


def test_an_unsplit_engine_that_does_not_start_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    class Failing:
        def wait_ready(self, timeout_s: float) -> None:
            raise EngineFailed("whole ended with exit code 1")

    @contextmanager
    def given(value: Any) -> Iterator[Any]:
        yield value

    monkeypatch.setattr(bench.pupil, "serving_builtin_model", lambda _console: given("http://split"))
    monkeypatch.setattr(bench.pupil, "unsplit_engine", lambda *_: given(Failing()))
    monkeypatch.setattr(bench.pupil, "_examine", lambda *_: [Said("", ())])
    result = run()
    assert (result.exit_code, type(result.exception)) == (1, SystemExit)
    assert "whole ended with exit code 1" in result.output


def test_the_card_says_which_kinds_miss_their_mark() -> None:
    rows = [
        {"kind": kind, "asked": 100, "right": right, "right_whole": right}
        for kind, right in (("colour", 0.98), ("relation", 0.949), ("larger", 0.1))
    ]
    assert card_table(rows).endswith("**Below their mark: relation.**")
    assert card_table(rows[:1]).endswith("All marks are met.")
