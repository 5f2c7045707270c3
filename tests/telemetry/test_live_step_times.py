"""When steps of an engine began, which nobody has stamped."""

import pytest
from live_engines import call, prompt, step, streams

from chiasm.telemetry.live.step_times import timed_steps
from chiasm.telemetry.records import EngineCall, EngineRecords, Pause, Step


def seconds(steps: list[Step], calls: list[EngineCall] | None = None, pauses: tuple[Pause, ...] = ()) -> list[float]:
    records = EngineRecords(100.0, tuple(calls or ()), steps=tuple(steps), pauses=pauses)
    return [round(timed.seconds, 6) for timed in timed_steps(records)]


def test_an_engine_that_has_requests_goes_from_step_to_step() -> None:
    steps = [streams(10.0, 2, running=2), streams(10.2, 2, running=2), streams(10.5, 2, running=1)]
    assert seconds(steps) == [0.2, 0.3]


def test_records_come_in_any_order() -> None:
    assert seconds([streams(10.5, 1), streams(10.0, 2, running=2)]) == [0.5]


def test_an_idle_engine_begins_with_a_call() -> None:
    steps = [streams(10.0, 1), prompt(20.0, 100, running=1), streams(20.1, 1)]
    assert seconds(steps, [call(8.0, 9.0, 10.0), call(19.6, 20.0, 20.1)]) == [0.4, 0.1]


def test_the_first_of_several_calls_began_the_step() -> None:
    steps = [streams(10.0, 1), step(20.0, prompt_requests=2, prompt_tokens=200)]
    assert seconds(steps, [call(19.7, 20.0, 21.0), call(19.6, 20.0, 21.0)]) == [0.4]


def test_what_waits_for_something_else_does_not_keep_an_engine_busy() -> None:
    steps = [streams(10.0, 1, waiting=1), prompt(20.0, 100)]
    assert seconds(steps, [call(19.6, 20.0, 21.0)]) == [0.4]


def test_without_its_call_a_step_after_idleness_is_left_out() -> None:
    assert seconds([streams(10.0, 1), prompt(20.0, 100, running=1), streams(20.1, 1)]) == [0.1]


def test_the_first_step_of_all_counts_if_all_of_a_prompt_was_in_it() -> None:
    encode = prompt(5.0, 100, images=1, image_tokens=90)
    assert seconds([encode], [call(3.0, 5.0, 5.0)]) == [2.0]
    assert seconds([encode], [call(3.0, 4.999, 4.999)]) == [2.0]  # stamps of one moment differ by a little
    assert seconds([encode], [call(3.0, 5.0, 5.0, prompt=101)]) == []  # this may have been its second step
    assert seconds([encode], [call(3.0, 5.0, 5.0, prompt=150, cached=50)]) == [2.0]
    assert seconds([encode], [call(1.0, 2.0, 2.0)]) == []
    assert seconds([prompt(5.0, 100, streams=1, stream_tokens=1)], [call(3.0, 5.0, 6.0)]) == []


def test_who_gave_up_before_a_step_began_none() -> None:
    steps = [streams(10.0, 1), prompt(20.0, 100)]
    assert seconds(steps, [call(15.0, 15.0, 15.0), call(19.6, 20.0, 21.0)]) == [0.4]


def test_standing_still_is_no_part_of_a_step() -> None:
    steps = [streams(10.0, 1, running=1), streams(15.0, 1)]
    assert seconds(steps, pauses=(Pause(9.9, 10.1, 14.5), Pause(3.0, 3.1, 3.2))) == [0.5]
    assert seconds(steps, pauses=(Pause(15.1, 15.2, 0.0),)) == [5.0]


def test_nothing_is_known_of_nothing() -> None:
    assert seconds([]) == []


@pytest.mark.parametrize("running", [0, 1])
def test_a_call_that_joined_a_busy_engine_does_not_shorten_its_step(running: int) -> None:
    steps = [streams(10.0, 1, running=running), prompt(10.4, 100, running=1)]
    assert seconds(steps, [call(10.3, 10.4, 11.0)]) == [0.4 if running else 0.1]
