"""Keeps what is compared, and who asks, on the cores that it is said to have."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

from chiasm.engine_guard import parse_cpus


@contextmanager
def only_on(cores: str) -> Iterator[None]:
    """This thread, and whatever it starts, runs on these alone for as long as the context lasts.

    Engines are bound further, each to its own. So on a machine with more cores no arrangement gets any of the others
    for its gateway, its router or Ray, and the client that asks in this thread has no core to itself either.
    """
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, parse_cpus(cores))
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)
