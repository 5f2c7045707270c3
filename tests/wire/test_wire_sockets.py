from collections.abc import Callable
from typing import Any

import pytest
import zmq

from chiasm.wire import sockets
from chiasm.wire.sockets import Doorbell, milliseconds_until


@pytest.fixture
def bell(opened: Callable[[Any], Any]) -> Doorbell:
    return opened(Doorbell())


def ringing(bell: Doorbell) -> bool:
    poller = zmq.Poller()
    poller.register(bell, zmq.POLLIN)
    return bool(poller.poll(0))


def test_a_bell_rings_until_it_is_answered(bell: Doorbell) -> None:
    assert not ringing(bell)
    bell.ring()
    bell.ring()
    assert ringing(bell)
    bell.answer()
    assert not ringing(bell)
    bell.answer()


def test_a_bell_that_nobody_answers_blocks_nobody(bell: Doorbell) -> None:
    for _ in range(2_000):
        bell.ring()
    bell.answer()
    assert not ringing(bell)


def test_time_to_wait_is_rounded_up_and_never_negative(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sockets, "time", type("Clock", (), {"monotonic": staticmethod(lambda: 100.0)}))
    assert [milliseconds_until(t) for t in (99.0, 100.0, 100.0001, 102.0)] == [0, 0, 1, 2000]
