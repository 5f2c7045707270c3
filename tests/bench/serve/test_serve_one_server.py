"""Figures of one server under load."""

import io
import math

import pytest
from made_answers import answer
from rich.console import Console

from bench.load.asking import Endpoint
from bench.load.goodput import Objectives
from bench.load.workloads import MIXES
from bench.serve.one_server import Load, row, tables

ENDPOINT = Endpoint("http://x", "model")
LOAD = Load(MIXES["text"], rate=2.0, number=4)
ANSWERS = [answer(100, 50), answer(100, 300), answer(3000, 50), answer(1, 1, error="broken")]


def test_a_request_is_good_whose_first_token_and_every_gap_are_in_time() -> None:
    found = row(ENDPOINT, LOAD, ANSWERS, Objectives(ttft_ms=1000, itl_ms=200))
    assert (found["completed"], found["failed"]) == (3, 1)
    assert found["within_objectives_per_s"] == pytest.approx(1 / found["duration"])
    assert found["objectives_hold"] is False


def test_objectives_hold_if_tails_do() -> None:
    assert row(ENDPOINT, LOAD, ANSWERS[:1], Objectives(1000, 200))["objectives_hold"] is True
    assert "within_objectives_per_s" not in row(ENDPOINT, LOAD, ANSWERS, None)


def test_the_burstiness_decides_how_evenly_requests_come() -> None:
    evenly = Load(MIXES["text"], rate=2.0, number=4, burstiness=math.inf).planned()
    assert [each.due_s for each in evenly] == [0.5, 1.0, 1.5, 2.0]
    random = LOAD.planned()
    assert random[-1].due_s == pytest.approx(2.0)
    assert [each.due_s for each in random] != [each.due_s for each in evenly]
    assert Load(MIXES["text"], math.inf, 4).settings()["request_rate"] == "inf"


def test_a_server_of_which_nothing_is_known_has_a_table_too() -> None:
    printed = Console(file=io.StringIO(), width=120)
    for table in tables(row(ENDPOINT, LOAD, ANSWERS[3:], Objectives(1000, 200))):
        printed.print(table)
    assert "requests failed" in printed.file.getvalue()  # type: ignore[attr-defined]
