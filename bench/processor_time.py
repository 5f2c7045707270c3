"""How many cores engines keep busy, and how many everything around them; or how busy cores are, by whomever.

While arrangements take turns, whoever is not asked is stopped (`bench.topologies.turns`), so the time is that of the
one that is.
"""

import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import psutil

from chiasm.engine_guard import parse_cpus


def processor_seconds() -> tuple[float, float]:
    """Processor time so far of what this program has started and still runs: of engines' cores, and of all else.

    All else is front-ends, gateway, scheduler, Ray and the asking program itself.
    """
    me = psutil.Process()
    engines = others = 0.0
    for process in [me, *me.children(recursive=True)]:
        try:
            times, command = process.cpu_times(), process.cmdline()
        except psutil.NoSuchProcess:
            continue
        if command and command[0].startswith("VLLM::"):  # its engine core and workers, as vLLM calls them
            engines += times.user + times.system
        else:
            others += times.user + times.system
    return engines, others


class BusyCores:
    """Counts from when it is made."""

    def __init__(self) -> None:
        self._engines_s, self._others_s = processor_seconds()
        self._begun = time.monotonic()

    def so_far(self) -> dict[str, float]:
        """Mean numbers of cores kept busy: `engine_cores` by engines, `other_cores` by all else."""
        engines_s, others_s = processor_seconds()
        seconds = time.monotonic() - self._begun
        return {
            "engine_cores": round((engines_s - self._engines_s) / seconds, 3),
            "other_cores": round((others_s - self._others_s) / seconds, 3),
        }


@contextmanager
def busy_shares(halves: Sequence[str]) -> Iterator[list[float]]:
    """Of each of these lists of cores the share of the time, 0 to about 1, in which they compute in this context.

    The shares are there when it has ended, as exactly as the kernel's ticks. Whoever waits actively counts as well.
    """
    shares: list[float] = []
    before_s, began_s = _computed_s(), time.monotonic()
    yield shares
    lasted_s, after_s = time.monotonic() - began_s, _computed_s()
    shares += (
        sum(after_s[core] - before_s[core] for core in cores) / (len(cores) * lasted_s)
        for cores in map(parse_cpus, halves)
    )


def _computed_s() -> dict[int, float]:
    """What each core has computed since the machine was started."""
    found = {}
    for line in Path("/proc/stat").read_text().splitlines():
        name, *ticks = line.split()
        if name.startswith("cpu") and name != "cpu":
            user, nice, system, _idle, _waiting, interrupts, soft = map(int, ticks[:7])
            found[int(name[3:])] = (user + nice + system + interrupts + soft) / os.sysconf("SC_CLK_TCK")
    return found
