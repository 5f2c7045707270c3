"""How many cores engines keep busy, and how many everything around them.

While arrangements take turns, whoever is not asked is stopped (`bench.topologies.turns`), so the time is that of the
one that is.
"""

import time

import psutil


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
