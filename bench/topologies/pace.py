"""Unequal silicon from equal cores: what runs on some of them, engines and front-ends, is stopped part of the time.

It stands for a card with so large a part of the other's speed, at computing and at reading memory alike.
"""

from collections.abc import Iterator
from contextlib import contextmanager, suppress

import psutil

from bench.handicap import held_to
from bench.topologies.program import guards_an_engine
from chiasm.engine_guard import parse_cpus


class Straddling(RuntimeError):
    """An engine runs on cores of both speeds; the message says which, and what to do."""


@contextmanager
def slowed(cores: str, share: float) -> Iterator[None]:
    """Let engines on these cores, as in `Setting.cores`, run for that share of the time while the context lasts.

    `share` is between 0 and 1: 0.5 makes the other cores twice as fast. It is for all engines that this program has
    started and that are up; to be entered when they are ready, for their processes are looked up once.

    Raises:
        ValueError: no such share.
        Straddling: an engine has some of these cores and others too. No card is slow in part.
    """
    if not 0 < share < 1:
        raise ValueError(f"a share of {share} is none: write 0.5 for half the speed")
    with held_to(share, engine_processes(parse_cpus(cores))):
        yield


def engine_processes(cores: set[int]) -> list[psutil.Process]:
    """All processes of engines that have these cores and no others.

    Raises:
        Straddling: see `slowed`.
    """
    found = []
    for guard in _guards():  # they themselves have other things to do than to compute
        with suppress(psutil.NoSuchProcess):
            allowed = set(guard.cpu_affinity())
            if allowed <= cores:
                found += guard.children(recursive=True)
            elif allowed & cores:
                raise Straddling(
                    f"an engine runs on cores {sorted(allowed)}, of which only {sorted(allowed & cores)} are to be "
                    "slower, and no card is slow in part. Compare two replicas (mono-x2), one on each, instead."
                )
    return found


def _guards() -> list[psutil.Process]:
    guards = []
    for process in psutil.Process().children(recursive=True):
        with suppress(psutil.NoSuchProcess):
            if guards_an_engine(process.cmdline()):
                guards.append(process)
    return guards
