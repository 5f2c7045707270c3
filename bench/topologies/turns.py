"""One arrangement at a time: while it is asked, the others that are up are stopped.

An idle cluster of Chiasm's takes a tenth of a core, most of it Ray's, and a pair of idle vLLM servers a fiftieth. What
is compared with them would be slower by so much than it is by itself.
"""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import partial

import psutil

from bench.load.asking import Endpoint
from bench.topologies.running import Running

WAKE_S = 1.0  # for what has come to be due while it was stopped

Wake = Callable[[], Endpoint]
"""Lets it run, and stops the others until one of these is called; whom to ask."""


@contextmanager
def in_turns(running: Mapping[str, Running]) -> Iterator[dict[str, Wake]]:
    """By name, as `running`, of whom all are ready. All run again in the end."""
    turns = _Turns(running)
    try:
        yield {name: partial(turns.wake, name) for name in running}
    finally:
        for one in running.values():
            _resume(one.processes())


class _Turns:
    """Who runs."""

    def __init__(self, running: Mapping[str, Running]) -> None:
        self._running = running
        self._awake = set(running)

    def wake(self, name: str) -> Endpoint:
        """See `Wake`."""
        if self._awake != {name}:
            for other in self._awake - {name}:
                _suspend(self._running[other].processes())
            woken = self._running[name].processes()
            _resume(woken)
            self._awake = {name}
            if woken:
                time.sleep(WAKE_S)
        return self._running[name].endpoint


def _suspend(processes: Iterable[psutil.Process]) -> None:
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            process.suspend()


def _resume(processes: Iterable[psutil.Process]) -> None:
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            process.resume()
