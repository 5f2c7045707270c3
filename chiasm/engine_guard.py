"""The process between an engine and its owner: it sees to it that an engine never outlives the one who started it.

An owner that is killed cannot clean up, so the guard does: its standard input is a pipe that the owner never writes to.
When the pipe closes, for whatever reason, the engine's whole family of processes is stopped and its runtime folder
removed. Orphaned grandchildren are adopted by the guard (it is a sub-reaper), so none is missed. Linux only. It must
not import anything heavy: it lives as long as the engine does.
"""

import argparse
import contextlib
import ctypes
import os
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable

import psutil

PR_SET_PDEATHSIG = 1  # linux/prctl.h
PR_SET_CHILD_SUBREAPER = 36
POLL_S = 0.2
ORPHAN_GRACE_S = 2.0
TRACKER_GRACE_S = 5.0


def parse_cpus(cpus: str) -> set[int]:
    """The cores in a list like `"0-3,6"`.

    Raises:
        ValueError: not such a list.
    """
    cores: set[int] = set()
    for part in cpus.split(","):
        first, _, last = part.partition("-")
        cores.update(range(int(first), int(last or first) + 1))
    if not cores:
        raise ValueError(f"no cores in {cpus!r}")
    return cores


def guard(command: list[str], runtime: str, cpus: str | None, grace_s: float) -> int:
    """Run `command` until it ends or the owner lets go; returns its exit code (negative: killed by that signal)."""
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    stop_signals: list[int] = []
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda received, _frame: stop_signals.append(received))
    try:
        if cpus is not None:
            os.sched_setaffinity(0, parse_cpus(cpus))  # inherited by everything the engine starts
        child = subprocess.Popen(  # the guard has one thread, so preexec_fn is safe
            command,
            stdin=subprocess.DEVNULL,
            preexec_fn=_die_with_parent(prctl),  # noqa: PLW1509
        )
        _wait(child, lambda: bool(stop_signals))
        # What is left of an engine that ended by itself gets just the time to give back its shared memory.
        _stop_family(grace_s if child.poll() is None else min(grace_s, ORPHAN_GRACE_S))
        return child.wait(timeout=grace_s)
    finally:
        shutil.rmtree(runtime, ignore_errors=True)


def _die_with_parent(prctl: Callable[..., int]) -> Callable[[], None]:
    # Should the guard itself be killed, the kernel ends the engine's front-end.
    def ask_kernel() -> None:
        prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)

    return ask_kernel


def _wait(child: subprocess.Popen[bytes], asked_to_stop: Callable[[], bool]) -> None:
    """Return when the child ended, a signal asked to stop, or the owner's end of stdin closed."""
    while child.poll() is None and not asked_to_stop():
        with contextlib.suppress(InterruptedError):
            readable, _, _ = select.select([0], [], [], POLL_S)
            if readable and not os.read(0, 1):
                return


def _stop_family(grace_s: float) -> None:
    """SIGTERM to the engine's front-end, SIGKILL to whatever is left of its descendants after the grace."""
    me = psutil.Process()
    _signal(_living(me), signal.SIGCONT)  # who has been stopped would not hear of its end
    _signal([child for child in me.children() if not _is_tracker(child)], signal.SIGTERM)
    deadline = time.monotonic() + grace_s
    while time.monotonic() < deadline and _living(me):
        time.sleep(POLL_S / 4)
    deadline = time.monotonic() + TRACKER_GRACE_S
    while family := _living(me):  # a dying parent's children become ours, so look until there are none
        others = [process for process in family if not _is_tracker(process)]
        if others or time.monotonic() > deadline:
            _signal(others or family, signal.SIGKILL)
        psutil.wait_procs(family, timeout=POLL_S)


def _living(me: psutil.Process) -> list[psutil.Process]:
    living = []
    for process in me.children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):
            if process.status() != psutil.STATUS_ZOMBIE:
                living.append(process)
    return living


def _is_tracker(process: psutil.Process) -> bool:
    """Whether this is Python's resource tracker: it unlinks the shared memory that others leave, and ends by itself."""
    try:
        return "resource_tracker" in " ".join(process.cmdline())
    except psutil.NoSuchProcess:
        return False


def _signal(processes: Iterable[psutil.Process], number: int) -> None:
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.send_signal(number)


def main() -> None:
    """Parse the command line and guard."""
    parser = argparse.ArgumentParser(description="Run a command that ends when standard input closes.")
    parser.add_argument("--runtime", required=True, help="folder removed at the end")
    parser.add_argument("--cpus", help='cores to run on, e.g. "0-3"')
    parser.add_argument("--grace", type=float, default=10.0, help="seconds between SIGTERM and SIGKILL")
    parser.add_argument("command", nargs=argparse.REMAINDER, help="-- COMMAND [ARG ...]")
    arguments = parser.parse_args()
    code = guard(arguments.command[1:], arguments.runtime, arguments.cpus, arguments.grace)
    sys.exit(code if code >= 0 else 128 - code)


if __name__ == "__main__":
    main()
