"""Bystanders run beside carriers all the while, and no longer than that; against an engine that is played."""

import random
from itertools import pairwise

import pytest
from prompt_stalled_engine import GAP_S, PlayedEngine, playing

from bench.itl.bodies import bystander
from bench.itl.plan import BYSTANDER_TOKENS
from bench.itl.traffic import is_bystander, run
from bench.load.answers import Answer
from bench.load.asking import Endpoint, Planned

pytestmark = pytest.mark.slow

STREAMS = 2


def send(
    engine: PlayedEngine, due_s: list[float], end_s: float | None
) -> tuple[list[Answer], list[Answer], list[Answer]]:
    """Carriers, bystanders, and who was told of."""
    dice = random.Random(1)
    told: list[Answer] = []
    planned = [Planned(due, "carrier", bystander(4, dice)) for due in due_s]
    with playing(engine) as url:
        answers = run(Endpoint(url, "played"), STREAMS, planned, end_s, dice, told.append)
    carriers = [answer for answer in answers if not is_bystander(answer)]
    return carriers, [answer for answer in answers if is_bystander(answer)], told


@pytest.mark.timeout(30)
def test_bystanders_follow_one_another_in_each_line_until_the_end_and_are_broken_off_there() -> None:
    end_s = 1.7 * BYSTANDER_TOKENS * GAP_S
    carriers, beside, told = send(PlayedEngine(stall_s=0.0), [0.1, 0.3], end_s)
    assert [answer.due_s for answer in carriers] == [0.1, 0.3]
    assert all(answer.ok for answer in (*carriers, *beside))
    lines = {kind: [answer for answer in beside if answer.kind == kind] for kind in {answer.kind for answer in beside}}
    assert set(lines) == {"bystander 1", "bystander 2"}
    assert lines["bystander 1"][0].output_tokens == BYSTANDER_TOKENS // 2  # so that not all end at once
    assert lines["bystander 2"][0].output_tokens <= BYSTANDER_TOKENS
    for line in lines.values():
        for before, after in pairwise(line):
            assert before.ended_s <= after.sent_s
        last = line[-1]
        assert 0 < last.output_tokens < BYSTANDER_TOKENS
        assert last.tokens_s[-1] <= last.ended_s
        assert last.ended_s >= end_s
    assert len(told) == len(carriers) + len(beside)


def test_without_an_end_they_run_until_all_carriers_are_answered() -> None:
    engine = PlayedEngine(stall_s=0.0)
    answers, beside, told = send(engine, [0.2], None)
    assert [answer.ok for answer in answers] == [True]
    assert beside == []
    assert told == answers
    assert len(engine.asked) == 1 + STREAMS


def test_a_carrier_is_answered_to_its_end_though_the_drive_is_over() -> None:
    carriers, beside, _ = send(PlayedEngine(stall_s=0.01), [0.3], 0.4)
    assert carriers[0].ok
    assert carriers[0].output_tokens == 4
    assert carriers[0].ended_s > 0.4
    assert all(answer.ok for answer in beside)


def test_a_bystander_that_fails_is_told_of_and_has_a_successor() -> None:
    engine = PlayedEngine(refuse_first=True)
    _, beside, _ = send(engine, [0.1], 1.6)
    assert [answer.ok for answer in beside].count(False) == 1
    failed = next(answer for answer in beside if not answer.ok)
    assert "answered 503" in str(failed.error)
    assert any(answer.ok for answer in beside if answer.kind == failed.kind)


@pytest.fixture(autouse=True)
def short_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bench.itl.traffic.REST_S", 0.1)
