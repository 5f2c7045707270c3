"""What an engine hands out of what it remembers."""

import pytest

from chiasm.telemetry.engine.memory import CALLS_KEPT, RECORDS_VARIABLE, EngineMemory, recording
from chiasm.telemetry.records import EngineCall, Pause, Step, Transfer
from chiasm.wire.settings import RUNTIME_VARIABLE

NOW = 1000.0


def call(name: str, arrived: float, last_token: float) -> EngineCall:
    return EngineCall(name, arrived, arrived, arrived, arrived, last_token, 7, 0, 3, 0, "stop")


def step(ended: float) -> Step:
    return Step(ended, 0.01, 1, 7, 2, 2, 0, 0, 3, 1, 0.5)


@pytest.fixture
def memory() -> EngineMemory:
    return EngineMemory()


def names(calls: tuple[EngineCall, ...]) -> list[str]:
    return [each.call for each in calls]


def test_a_request_is_asked_for_by_its_id_and_has_its_items_with_it(memory: EngineMemory) -> None:
    for name in ("a", "a.0", "a.1", "ab", "b.0", "a"):
        memory.call_ended(call(name, 10.0, 20.0), ended=20.0)
    assert names(memory.of_call("a", (), NOW).calls) == ["a", "a.0", "a.1", "a"]
    assert names(memory.of_call("a.1", (), NOW).calls) == ["a.1"]
    assert memory.of_call("c", (), NOW).calls == ()


def test_a_request_has_the_transfers_of_its_embeddings_and_the_pauses_that_overlap_it(memory: EngineMemory) -> None:
    memory.call_ended(call("a", 10.0, 20.0), ended=20.0)
    transfers = [Transfer("before", 8, 9, 1), Transfer("into", 8, 11, 1), Transfer("out", 19, 30, 1)]
    for transfer in (*transfers, Transfer("after", 21, 22, 1), Transfer("another's", 12, 13, 1)):
        memory.transferred(transfer)
    for wanted, ended in ((1, 2), (9, 12), (25, 26)):
        memory.stood_still(wanted, wanted + 0.5)
        memory.went_on(ended)
    memory.stepped(step(15.0))
    found = memory.of_call("a", ("before", "into", "out", "after"), NOW)
    assert [transfer.key for transfer in found.transfers] == ["into", "out"]
    assert found.pauses == (Pause(9, 9.5, 12),)
    assert (found.now, found.steps) == (NOW, ())


def test_a_transfer_that_failed_belongs_to_the_call_that_it_failed(memory: EngineMemory) -> None:
    """Such a call got nowhere, so its own times say nothing of when it ended."""
    memory.call_ended(call("a", 10.0, 10.0), ended=30.0)
    memory.transferred(Transfer("key", 11.0, 29.0, 0, "missing"))
    assert memory.of_call("a", ("key",), NOW).transfers == (Transfer("key", 11.0, 29.0, 0, "missing"),)


def test_two_attempts_have_nothing_of_what_was_between_them(memory: EngineMemory) -> None:
    memory.call_ended(call("a", 10.0, 12.0), ended=12.0)
    memory.call_ended(call("a", 20.0, 22.0), ended=22.0)
    memory.transferred(Transfer("key", 14.0, 15.0, 1))
    assert memory.of_call("a", ("key",), NOW).transfers == ()


def test_everything_since_a_moment_is_what_ended_then_or_later(memory: EngineMemory) -> None:
    for ended in (10.0, 20.0, 30.0):
        memory.call_ended(call(f"until {ended}", 1.0, ended), ended)
        memory.transferred(Transfer(f"until {ended}", 1.0, ended, 1))
        memory.stepped(step(ended))
        memory.stood_still(1.0, 1.0)
        memory.went_on(ended)
    found = memory.since(20.0, NOW)
    assert names(found.calls) == [each.key for each in found.transfers] == ["until 20.0", "until 30.0"]
    assert [each.ended for each in found.steps] == [each.ended for each in found.pauses] == [20.0, 30.0]
    assert len(memory.since(0.0, NOW).steps) == 3


def test_a_pause_that_lasts_is_told_of_and_repeating_it_changes_nothing(memory: EngineMemory) -> None:
    memory.went_on(5.0)  # nothing stood still
    memory.stood_still(wanted=10.0, began=11.0)
    memory.stood_still(wanted=12.0, began=13.0)
    memory.call_ended(call("a", 20.0, 21.0), ended=21.0)
    assert memory.since(500.0, NOW).pauses == memory.of_call("a", (), NOW).pauses == (Pause(10.0, 11.0, 0.0),)
    memory.went_on(30.0)
    assert memory.since(0.0, NOW).pauses == (Pause(10.0, 11.0, 30.0),)
    assert memory.since(500.0, NOW).pauses == ()


def test_the_oldest_make_room(memory: EngineMemory) -> None:
    for number in range(CALLS_KEPT + 1):
        memory.call_ended(call(str(number), 1.0, 2.0), ended=2.0)
    assert memory.of_call("0", (), NOW).calls == ()
    assert names(memory.of_call(str(CALLS_KEPT), (), NOW).calls) == [str(CALLS_KEPT)]


def test_what_makes_room_is_the_oldest_of_its_own_request(memory: EngineMemory) -> None:
    for number in range(3):
        memory.call_ended(call(f"a.{number}", 1.0, 2.0), ended=2.0)
    for number in range(CALLS_KEPT - 2):
        memory.call_ended(call(str(number), 1.0, 2.0), ended=2.0)
    assert names(memory.of_call("a", (), NOW).calls) == ["a.1", "a.2"]


def test_it_says_since_when_it_remembers_everything(memory: EngineMemory) -> None:
    for number in range(CALLS_KEPT):
        memory.call_ended(call(str(number), 1.0, 2.0), ended=100.0 + number)
    assert memory.since(0.0, NOW).whole_since == 0.0
    memory.call_ended(call("one more", 1.0, 2.0), ended=NOW)
    assert memory.since(0.0, NOW).whole_since == 101.0


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, False),
        ({RUNTIME_VARIABLE: "/nowhere"}, True),
        ({RUNTIME_VARIABLE: "/nowhere", RECORDS_VARIABLE: "1"}, True),
        ({RUNTIME_VARIABLE: "/nowhere", RECORDS_VARIABLE: "0"}, False),
    ],
)
def test_only_our_engines_remember_and_only_if_they_may(
    environment: dict[str, str], expected: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in (RUNTIME_VARIABLE, RECORDS_VARIABLE):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert recording() == expected
