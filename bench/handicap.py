"""Makes processes slower than their cores are: they are stopped part of the time, by a process of its own.

So whatever its user does meanwhile, and for how long, changes nothing of their pace.
"""

import argparse
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress

import psutil

STOPPED_S = 0.01  # at a time: short beside an encode


class PaceLost(RuntimeError):
    """Processes were not held to their share all the time; the message says what to do."""


@contextmanager
def held_to(share: float, processes: Sequence[psutil.Process]) -> Iterator[None]:
    """Let these run for that share of the time (between 0 and 1), all at once, for as long as the context lasts.

    Raises:
        PaceLost: they had their whole pace again before it was over.
    """
    command = [sys.executable, "-m", __name__, str(share), *(str(process.pid) for process in processes)]
    # It ends when its input closes, as it does when we are gone.
    with subprocess.Popen(command, stdin=subprocess.PIPE) as holder:
        try:
            yield
            if holder.poll() is not None:
                raise PaceLost(
                    "What slowed processes down ended too early, so their pace is unknown. Measure all again."
                )
        finally:
            assert holder.stdin is not None
            holder.stdin.close()
            holder.wait()
            _resume(processes)  # for a holder that was killed


def _hold(share: float, processes: Sequence[psutil.Process], over: threading.Event) -> None:
    run_s = STOPPED_S
    while not over.wait(run_s):
        begun = time.monotonic()
        try:
            for process in processes:
                with suppress(psutil.NoSuchProcess):
                    process.suspend()
            time.sleep(STOPPED_S)
        finally:
            _resume(processes)
        # A sleep may last longer than it was told to, so what follows goes by what it was.
        run_s = (time.monotonic() - begun) * share / (1 - share)


def _resume(processes: Sequence[psutil.Process]) -> None:
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            process.resume()


def main() -> None:
    """Hold processes until the standard input closes."""
    parser = argparse.ArgumentParser(description="Stop processes part of the time.")
    parser.add_argument("share", type=float, help="of the time that they run")
    parser.add_argument("pids", type=int, nargs="*")
    arguments = parser.parse_args()
    processes = []
    for pid in arguments.pids:
        with suppress(psutil.NoSuchProcess):
            processes.append(psutil.Process(pid))
    over = threading.Event()
    threading.Thread(target=_until_input_closes, args=(over,), daemon=True).start()
    with suppress(KeyboardInterrupt):
        _hold(arguments.share, processes, over)


def _until_input_closes(over: threading.Event) -> None:
    sys.stdin.read()
    over.set()


if __name__ == "__main__":
    main()
