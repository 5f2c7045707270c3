"""Whose processor time is counted as whose."""

import os
import subprocess
import sys
import threading
import time
from types import SimpleNamespace

import pytest

from bench.processor_time import BusyCores, busy_shares, processor_seconds
from bench.topologies.setting import first_two_cores

TICKS_S = 0.05  # by which the kernel's count of a core may differ from that of a thread


def test_processor_time_is_told_apart_by_whose_it_is() -> None:
    before = processor_seconds()
    calling = (
        "import setproctitle; setproctitle.setproctitle('VLLM::Worker'); sum(range(10**7)); print('done'); input()"
    )
    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, "-u", "-c", calling], stdin=pipe, stdout=pipe) as engine:
        assert engine.stdout is not None
        engine.stdout.readline()
        sum(range(10**7))
        engines, others = processor_seconds()
        engine.communicate(b"\n")
    assert engines > before[0]
    assert others > before[1]


def test_cores_are_those_of_the_time_since_it_began(monkeypatch: pytest.MonkeyPatch) -> None:
    seconds = iter([(10.0, 1.0), (13.0, 1.5)])
    monkeypatch.setattr("bench.processor_time.processor_seconds", lambda: next(seconds))
    clock = iter([100.0, 102.0])
    monkeypatch.setattr("bench.processor_time.time", SimpleNamespace(monotonic=lambda: next(clock)))
    assert BusyCores().so_far() == {"engine_cores": 1.5, "other_cores": 0.25}


def test_a_core_is_busy_for_as_long_as_somebody_computes_on_it() -> None:
    first, second = first_two_cores()
    computed_s = 0.3

    def compute() -> None:
        os.sched_setaffinity(0, {int(second)})  # of this thread
        while time.thread_time() < computed_s:
            pass

    began_s = time.monotonic()
    with busy_shares([first, second, f"{first},{second}"]) as shares:
        thread = threading.Thread(target=compute)
        thread.start()
        thread.join()
    lasted_s = time.monotonic() - began_s
    one, other, both = shares
    assert other * lasted_s > computed_s - TICKS_S
    assert both == pytest.approx((one + other) / 2)
    assert max(shares) * lasted_s < lasted_s + TICKS_S
