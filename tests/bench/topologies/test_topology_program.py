"""Programs that are started beside a benchmark: however they end, nothing of them is left."""

import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from bench.topologies import program
from bench.topologies.program import RUNTIME_PREFIX, Program, guarded, guards_an_engine, start

READY = "print('ready: http://127.0.0.1:1/v1', flush=True)"
STUBBORN = f"import signal; signal.signal(signal.SIGINT, signal.SIG_IGN); {READY}; signal.pause()"
CHILD = "import subprocess, sys; subprocess.Popen([sys.executable, '-c', 'import signal; signal.pause()'])"
PARENT = f"{CHILD}; {READY}; input()"


def test_one_that_does_not_end_is_killed_and_nothing_is_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(program, "STOP_TIMEOUT_S", 0.1)
    process = start([sys.executable, "-c", STUBBORN])
    stubborn = Program(process, "stubborn")
    stubborn.wait_ready()
    stubborn.stop()
    assert process.returncode == -9


def test_under_a_guard_its_children_end_with_it_when_our_end_of_the_pipe_closes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(program, "GRACE_S", 0.1)
    folder = tmp_path / f"{RUNTIME_PREFIX}folder"
    folder.mkdir()
    process = start(guarded([sys.executable, "-c", PARENT], str(folder)))
    parent = Program(process, "parent")
    parent.wait_ready()
    family = psutil.Process(process.pid).children(recursive=True)
    assert len(family) == 2
    assert process.stdin is not None
    process.stdin.close()  # as the system does when we are killed
    process.wait(30)
    assert [each for each in family if _lives(each)] == []
    assert not folder.exists()
    parent.stop()


def _lives(process: psutil.Process) -> bool:
    """Not of one that has ended and whose end nobody has asked for yet: a guard leaves such to whoever is above it."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_one_that_does_not_come_up_tells_what_it_said() -> None:
    process = start([sys.executable, "-c", "print('no room')"])
    failing = Program(process, "failing")
    with pytest.raises(program.NotServing, match=r"failing did not come up[^$]*\nno room"):
        failing.wait_ready()
    failing.stop()


def test_guards_of_engines_are_told_from_ours() -> None:
    ours = guarded(["chiasm", "serve"], f"/tmp/{RUNTIME_PREFIX}x")
    assert not guards_an_engine(ours)
    assert guards_an_engine([sys.executable, "-m", program.GUARD, "--runtime", "/dev/shm/chiasm-0", "--", "vllm"])
    assert not guards_an_engine(subprocess.list2cmdline(ours).split()[:2])
