"""Whose processor time is counted as whose."""

import subprocess
import sys
from types import SimpleNamespace

import pytest

from bench.processor_time import BusyCores, processor_seconds


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
