"""Cores that are slower: which processes are stopped part of the time."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import psutil
import pytest

from bench.topologies.pace import Straddling, engine_processes, slowed
from bench.topologies.program import RUNTIME_PREFIX, Program, guarded, start

pytestmark = pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="it takes two cores")

FIRST, SECOND = sorted(os.sched_getaffinity(0))[:2] if len(os.sched_getaffinity(0)) > 1 else (0, 0)
TRIED_S = 20.0
FOLDER = f"/nowhere/{RUNTIME_PREFIX}folder"
BUSY = "print('runs', flush=True)\nwhile True: pass"


@contextmanager
def engine(cpus: str, folder: str) -> Iterator[psutil.Process]:
    """A busy process under a guard, as engines run."""
    guard = [sys.executable, "-m", "chiasm.engine_guard", "--runtime", folder, "--cpus", cpus, "--grace", "1"]
    pipe = subprocess.PIPE
    with subprocess.Popen([*guard, "--", sys.executable, "-c", BUSY], stdin=pipe, stdout=pipe) as process:
        assert process.stdout is not None
        process.stdout.readline()
        [busy] = psutil.Process(process.pid).children()
        yield busy
        process.stdin.close() if process.stdin else None
        process.wait()


@pytest.fixture
def engines(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[psutil.Process]]:
    folders = [str(tmp_path_factory.mktemp("runtime")) for _ in range(2)]
    with engine(str(FIRST), folders[0]) as first, engine(str(SECOND), folders[1]) as second:
        yield [first, second]


def is_ever_stopped(process: psutil.Process) -> bool:
    deadline = time.monotonic() + TRIED_S
    while time.monotonic() < deadline:
        if process.status() == psutil.STATUS_STOPPED:
            return True
        time.sleep(0.001)
    return False


def test_what_is_on_the_cores_is_stopped_part_of_the_time_and_nothing_else(engines: list[psutil.Process]) -> None:
    first, second = engines
    assert engine_processes({FIRST}) == [first]
    assert engine_processes({FIRST, SECOND}) == [first, second]
    with slowed(str(SECOND), 0.3):
        assert is_ever_stopped(second)
    assert engine_processes({SECOND}) == [second]
    assert second.status() != psutil.STATUS_STOPPED


def test_a_cluster_under_a_guard_is_no_engine() -> None:
    command = guarded([sys.executable, "-c", "print('ready: http://127.0.0.1:1/v1', flush=True); input()"], FOLDER)
    program = Program(start(command), "cluster")
    try:
        program.wait_ready()
        assert engine_processes({FIRST}) == []
    finally:
        program.stop()


def test_an_engine_on_cores_of_both_speeds_is_refused(tmp_path_factory: pytest.TempPathFactory) -> None:
    whole = engine(f"{FIRST},{SECOND}", str(tmp_path_factory.mktemp("runtime")))
    with whole, pytest.raises(Straddling, match="slow in part"), slowed(str(FIRST), 0.5):
        raise AssertionError


@pytest.mark.parametrize("share", [0.0, 1.0, 2.0])
def test_a_share_that_is_none_is_refused(share: float) -> None:
    with pytest.raises(ValueError, match="share"), slowed("0", share):
        raise AssertionError
