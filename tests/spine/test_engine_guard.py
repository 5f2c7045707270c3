"""The guard: no process of an engine outlives its owner, whatever becomes of either."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from chiasm.engine_guard import parse_cpus

pytestmark = pytest.mark.slow

# A front-end that starts a stubborn grandchild, says who they are, and waits.
FAMILY = """
import os, signal, subprocess, sys, time
code = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(600)"
child = subprocess.Popen([sys.executable, "-c", code])
print(os.getpid(), child.pid, flush=True)
time.sleep(600)
"""


class Guarded:
    def __init__(self, runtime: Path, *flags: str) -> None:
        runtime.mkdir()
        self.runtime = runtime
        command = [sys.executable, "-m", "chiasm.engine_guard", "--runtime", str(runtime), "--grace", "0.5", *flags]
        self.process = subprocess.Popen(
            [*command, "--", sys.executable, "-c", FAMILY], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self.process.stdout is not None
        self.front_end, self.grandchild = map(int, self.process.stdout.readline().split())

    def assert_all_gone(self) -> None:
        self.process.wait(20)
        deadline = time.monotonic() + 20
        while any(_lives(pid) for pid in (self.front_end, self.grandchild)):
            assert time.monotonic() < deadline, "a process of the engine lives on"
            time.sleep(0.02)
        assert not self.runtime.exists()
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.close()
        self.process.stdout.close()


def _lives(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


@pytest.fixture
def guarded(tmp_path: Path) -> Guarded:
    return Guarded(tmp_path / "runtime")


def test_all_end_when_the_owner_lets_go(guarded: Guarded) -> None:
    assert guarded.process.stdin is not None
    guarded.process.stdin.close()  # as the kernel does for an owner that was killed
    guarded.assert_all_gone()


def test_all_end_on_a_signal(guarded: Guarded) -> None:
    guarded.process.send_signal(signal.SIGTERM)
    guarded.assert_all_gone()


def test_all_end_when_the_front_end_dies(guarded: Guarded) -> None:
    os.kill(guarded.front_end, signal.SIGKILL)
    guarded.assert_all_gone()
    assert guarded.process.returncode == 128 + signal.SIGKILL


def test_one_that_was_stopped_is_woken_to_end_in_order(tmp_path: Path) -> None:
    ended = tmp_path / "ended"
    front_end = f"""
import pathlib, signal, sys, time
def end(*_):
    pathlib.Path({str(ended)!r}).touch()
    sys.exit()
signal.signal(signal.SIGTERM, end)
print("ready", flush=True)
time.sleep(600)
"""
    command = [sys.executable, "-m", "chiasm.engine_guard", "--runtime", str(tmp_path / "runtime"), "--grace", "60"]
    with subprocess.Popen(
        [*command, "--", sys.executable, "-c", front_end], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as guard:
        assert guard.stdout is not None
        guard.stdout.readline()
        [child] = psutil.Process(guard.pid).children()
        child.suspend()
        guard.send_signal(signal.SIGTERM)
        assert guard.wait(50) == 0
    assert ended.exists()


def test_the_engine_runs_on_the_cores_it_was_given(tmp_path: Path) -> None:
    core = min(os.sched_getaffinity(0))
    guarded = Guarded(tmp_path / "runtime", "--cpus", str(core))
    assert psutil.Process(guarded.grandchild).cpu_affinity() == [core]
    guarded.process.terminate()
    guarded.assert_all_gone()


@pytest.mark.parametrize(("text", "cores"), [("0", {0}), ("0-3", {0, 1, 2, 3}), ("1,4-5", {1, 4, 5})])
def test_cores_are_read(text: str, cores: set[int]) -> None:
    assert parse_cpus(text) == cores


@pytest.mark.parametrize("text", ["", "a", "3-1", "1,"])
def test_what_are_no_cores_is_refused(text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011
        parse_cpus(text)
