"""Makes processes slower than their cores are: they are stopped part of the time, by a process of its own.

So whatever its user does meanwhile, and for how long, changes nothing of their pace.
"""

import argparse
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress

import psutil

from bench.load.journal import Spoilt

STOPPED_S = 0.01  # at a time: short beside an encode


class PaceLost(Spoilt):
    """Processes were not held to their share all the time; the message says what to do."""


@contextmanager
def held_to(share: float, processes: Sequence[psutil.Process]) -> Iterator[None]:
    """Let these run for that share of the time (between 0 and 1), all at once, for as long as the context lasts.

    Raises:
        PaceLost: they had their whole pace again before it was over.
    """
    with _holder(["--share", str(share), _listed(processes)], processes):
        yield


@contextmanager
def taking_turns(groups: Sequence[Sequence[psutil.Process]]) -> Iterator[None]:
    """Let one of these groups run at a time, `STOPPED_S` long, whether the others would run then or not: on one core
    each has its part of it, and no more, for as long as the context lasts.

    Raises:
        PaceLost: see `held_to`.
    """
    with _holder([_listed(group) for group in groups], [process for group in groups for process in group]):
        yield


def _listed(processes: Iterable[psutil.Process]) -> str:
    return ",".join(str(process.pid) for process in processes)


@contextmanager
def _holder(arguments: Sequence[str], processes: Sequence[psutil.Process]) -> Iterator[None]:
    # It ends when its input closes, as it does when we are gone.
    with subprocess.Popen([sys.executable, "-m", __name__, *arguments], stdin=subprocess.PIPE) as holder:
        ended_early = False
        try:
            yield
        finally:  # also of a run that is interrupted, for its journal holds what was measured
            ended_early = holder.poll() is not None
            assert holder.stdin is not None
            holder.stdin.close()
            holder.wait()
            _resume(processes)  # for a holder that was killed
            if ended_early:
                raise PaceLost(
                    "What slowed processes down ended too early, so their pace is unknown. Measure all again."
                )


def _hold(share: float, processes: Sequence[psutil.Process], over: threading.Event) -> None:
    run_s = STOPPED_S
    while not over.wait(run_s):
        begun = time.monotonic()
        try:
            _suspend(processes)
            time.sleep(STOPPED_S)
        finally:
            _resume(processes)
        # A sleep may last longer than it was told to, so what follows goes by what it was.
        run_s = (time.monotonic() - begun) * share / (1 - share)


def _take_turns(groups: Sequence[Sequence[psutil.Process]], over: threading.Event) -> None:
    try:
        while True:
            for group in groups:
                _suspend([process for other in groups if other is not group for process in other])
                _resume(group)
                if over.wait(STOPPED_S):
                    return
    finally:
        _resume([process for group in groups for process in group])


def _suspend(processes: Sequence[psutil.Process]) -> None:
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            process.suspend()


def _resume(processes: Sequence[psutil.Process]) -> None:
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            process.resume()


def main() -> None:
    """Hold processes until the standard input closes."""
    parser = argparse.ArgumentParser(description="Stop processes part of the time.")
    parser.add_argument("--share", type=float, help="of the time that they run, all at once; unset: groups take turns")
    parser.add_argument("groups", nargs="*", help="process ids, with commas between those of a group")
    arguments = parser.parse_args()
    groups = [_there(group) for group in arguments.groups]
    over = threading.Event()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for whoever closes the input
    threading.Thread(target=_until_input_closes, args=(over,), daemon=True).start()
    if arguments.share is None:
        _take_turns(groups, over)
    else:
        _hold(arguments.share, [process for group in groups for process in group], over)


def _there(group: str) -> list[psutil.Process]:
    found = []
    for pid in group.split(","):
        with suppress(psutil.NoSuchProcess, ValueError):  # nobody is in an empty group
            found.append(psutil.Process(int(pid)))
    return found


def _until_input_closes(over: threading.Event) -> None:
    sys.stdin.read()
    over.set()


if __name__ == "__main__":
    main()
