"""Makes processes slower than their cores are: they are stopped part of the time."""

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress

import psutil

STOPPED_S = 0.01  # at a time: short beside an encode


@contextmanager
def held_to(share: float, processes: Sequence[psutil.Process]) -> Iterator[None]:
    """Let these run for that share of the time (between 0 and 1), all at once, for as long as the context lasts."""
    over = threading.Event()
    thread = threading.Thread(target=_hold, args=(share, processes, over), name="handicap", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


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
            for process in processes:
                with suppress(psutil.NoSuchProcess):
                    process.resume()
        # A sleep may last longer than it was told to, so what follows goes by what it was.
        run_s = (time.monotonic() - begun) * share / (1 - share)
