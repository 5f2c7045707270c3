"""How long a request was in its phases, as its gateway tells by itself."""

import time

import pytest

from chiasm.gateway.timing import unfinished_waits
from chiasm.nouns import Item, ItemUuid, RequestId, Role, WorkerId
from chiasm.telemetry.marks import Marks
from chiasm.telemetry.records import Phase

U0, U1 = ItemUuid("u0"), ItemUuid("u1")
ENCODER, DECODER = WorkerId("encoder-0"), WorkerId("decoder-0")


class Told:
    """A request that is told of by seconds since its submission."""

    def __init__(self, *uuids: ItemUuid) -> None:
        self.now = 0.0
        self.marks = Marks(RequestId("r"), lambda: self.now)
        self.marks.submitted([Item(uuid, "image", 64) for uuid in uuids], streams=True)

    def at(self, seconds: float) -> Marks:
        self.now = seconds
        return self.marks

    def waits(self) -> list[tuple[Phase, float]]:
        """What it was waiting for after 10 s."""
        self.at(10.0).ended("deadline_exceeded")
        return list(unfinished_waits(self.marks))


def test_before_anything_was_posted() -> None:
    assert Told().waits() == [(Phase.DECODE_QUEUE, 10.0)]
    assert Told(U0, U1).waits() == [(Phase.ENCODE_QUEUE, 10.0)] * 2


def test_while_one_item_is_encoded_and_the_other_waits() -> None:
    told = Told(U0, U1)
    told.at(1.0).encode_posted(U0, ENCODER)
    assert told.waits() == [(Phase.ENCODE_QUEUE, 10.0)]


def test_behind_the_encodes() -> None:
    told = Told(U0)
    attempt = told.at(1.0).encode_posted(U0, ENCODER)
    told.at(4.0).encode_answered(attempt, 64, 1000)
    assert told.waits() == [(Phase.DECODE_QUEUE, 6.0)]


def test_behind_an_encode_that_failed() -> None:
    told = Told(U0)
    attempt = told.at(1.0).encode_posted(U0, ENCODER)
    told.at(4.0).encode_failed(attempt, "lost")
    assert told.waits() == [(Phase.ENCODE_QUEUE, 6.0)]


def test_behind_an_attempt_that_was_given_back_or_failed() -> None:
    told = Told()
    told.at(1.0).decode_posted(DECODER, Role.TEXT, ())
    told.at(3.0).decode_returned(5)
    assert told.waits() == [(Phase.DECODE_QUEUE, 7.0)]
    told = Told(U0)
    attempt = told.at(1.0).encode_posted(U0, ENCODER)
    told.at(2.0).encode_answered(attempt, 64, 1000)
    told.at(2.0).decode_posted(DECODER, Role.DECODER, ())
    told.at(3.0).decode_failed("its embedding is gone", 0)
    told.at(4.0).encode_posted(U0, ENCODER)
    assert told.waits() == []  # it is being encoded again


@pytest.mark.parametrize("answered", [False, True])
def test_nothing_with_an_engine_or_behind_its_answer(answered: bool) -> None:
    told = Told()
    told.at(1.0).decode_posted(DECODER, Role.DECODER, ())
    if answered:
        told.at(3.0).decode_answered(5)
    assert told.waits() == []


def test_a_machine_whose_clock_is_set_meanwhile_makes_nothing_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    now = time.time()
    marks = Marks(RequestId("r"))
    monkeypatch.setattr(time, "time", lambda: now + 3600)
    marks.submitted((), streams=False)
    marks.ended("answered")
    assert marks.submitted_at is not None
    assert marks.ended_at is not None
    assert abs(marks.arrived_at - now) < 60
    assert marks.arrived_at <= marks.submitted_at <= marks.ended_at < now + 60
