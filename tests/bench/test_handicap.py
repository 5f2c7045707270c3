"""Processes that are stopped part of the time."""

import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import NoReturn

import psutil
import pytest

from bench.handicap import PaceLost, held_to, taking_turns

pytestmark = pytest.mark.slow

TRIED_S = 2.0


@pytest.fixture
def busy() -> Iterator[psutil.Process]:
    yield from looping()


@pytest.fixture
def another() -> Iterator[psutil.Process]:
    yield from looping()


def looping() -> Iterator[psutil.Process]:
    process = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        yield psutil.Process(process.pid)
    finally:
        process.kill()
        process.wait()


def states(process: psutil.Process) -> set[str]:
    """Those that it is seen in within `TRIED_S`."""
    seen = set()
    deadline = time.monotonic() + TRIED_S
    while time.monotonic() < deadline:
        seen.add(process.status())
        time.sleep(0.001)
    return seen


def test_it_runs_part_of_the_time_and_then_goes_on(busy: psutil.Process) -> None:
    with held_to(0.3, [busy]):
        assert {psutil.STATUS_STOPPED, psutil.STATUS_RUNNING} <= states(busy)
    assert psutil.STATUS_STOPPED not in states(busy)


def test_groups_that_take_turns_run_half_of_the_time_each(busy: psutil.Process, another: psutil.Process) -> None:
    with taking_turns([[busy], [another], []]):
        for process in (busy, another):
            assert {psutil.STATUS_STOPPED, psutil.STATUS_RUNNING} <= states(process)
    for process in (busy, another):
        assert psutil.STATUS_STOPPED not in states(process)


def test_groups_that_take_turns_have_one_core_between_them(busy: psutil.Process, another: psutil.Process) -> None:
    with taking_turns([[busy], [another]]):
        states(busy)  # until the first turns are over
        begun, before = time.monotonic(), cores_time(busy, another)
        states(another)
        taken = cores_time(busy, another) - before
        assert taken < 1.3 * (time.monotonic() - begun)  # both at once would take twice as much


def cores_time(*processes: psutil.Process) -> float:
    return sum(process.cpu_times().user + process.cpu_times().system for process in processes)


def its_holder() -> psutil.Process:
    [holder] = [each for each in psutil.Process().children() if "bench.handicap" in each.cmdline()]
    return holder


def kill_its_holder() -> None:
    holder = its_holder()
    holder.kill()
    while holder.status() != psutil.STATUS_ZOMBIE:
        time.sleep(0.001)


def interrupt(after: Callable[[], None]) -> NoReturn:
    after()
    raise KeyboardInterrupt


def test_a_pace_that_was_lost_is_told(busy: psutil.Process) -> None:
    with ExitStack() as stack:
        stack.enter_context(held_to(0.3, [busy]))
        kill_its_holder()
        with pytest.raises(PaceLost, match="Measure all again"):
            stack.close()
    assert psutil.STATUS_STOPPED not in states(busy)


def test_a_pace_that_was_lost_is_told_of_what_is_interrupted_too(busy: psutil.Process) -> None:
    """A journal has what was measured until then."""
    with pytest.raises(PaceLost), held_to(0.3, [busy]):
        interrupt(kill_its_holder)


def test_an_interrupt_is_not_for_what_holds_processes(busy: psutil.Process) -> None:
    """A terminal sends it to all."""
    with held_to(0.3, [busy]):
        states(busy)  # until it holds
        its_holder().send_signal(signal.SIGINT)
        assert psutil.STATUS_STOPPED in states(busy)
    assert psutil.STATUS_STOPPED not in states(busy)


def test_one_that_has_ended_is_left_alone(busy: psutil.Process) -> None:
    with held_to(0.5, [busy]):
        busy.kill()
        busy.wait()
