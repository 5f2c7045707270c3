"""Whether this machine holds what is to be started, asked before anything is: too little ends engines in mid-run.

The figures were read from a run on two cores: an engine of the bench model has three processes with 1.4 to
1.6 GB between them beside weights and KV cache, and a cluster's other processes, Ray's among them, have 0.7 GB.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

from bench.topologies.arrangement import Arrangement
from bench.topologies.setting import Setting, kv_bytes

ENGINE_BYTES = 1_800_000_000  # front-end, engine core and worker, without weights and caches
PICTURES_GIB = 4.0  # --mm-processor-cache-gb of a server that is given none
CLUSTER_BYTES = 900_000_000  # Ray, gateway, scheduler and workers' actors
FRONT_BYTES = 80_000_000
SPARE_BYTES = 1_000_000_000  # for who asks, and for the system
CGROUP = Path("/sys/fs/cgroup")


class NotEnough(RuntimeError):
    """This machine does not hold what was to be started; the message says by how much, and what to do."""


@dataclass(frozen=True)
class Parts:
    """What an arrangement consists of."""

    engines: int
    generating: int  # of them: they share the KV cache
    cluster: bool = False
    front: bool = False


PARTS = {
    Arrangement.MONO: Parts(1, 1),
    Arrangement.MONO_X2: Parts(2, 2, front=True),
    Arrangement.MONO_CALIBRATED: Parts(1, 1),
    Arrangement.MONO_X2_CALIBRATED: Parts(2, 2, front=True),
    Arrangement.VLLM_EPD: Parts(2, 1, front=True),
    Arrangement.SPLIT: Parts(2, 1, cluster=True),
    Arrangement.SPLIT_STEAL: Parts(3, 2, cluster=True),
}


def memory_bytes(arrangement: Arrangement, setting: Setting) -> int:
    """What it takes at most: every engine is counted with all weights of the model, and a full cache of pictures.

    Raises:
        NotEnough: the model is not a folder with weights, so that nobody can tell.
    """
    parts = PARTS[arrangement]
    beside = parts.cluster * CLUSTER_BYTES + parts.front * FRONT_BYTES
    each = ENGINE_BYTES + _weights(setting.model) + _picture_cache_bytes(setting.engine_args)
    return parts.engines * each + kv_bytes(setting.engine_args) + beside


def _picture_cache_bytes(args: Sequence[str]) -> int:
    """Of an engine's cache of processed pictures, which grows until it is full, as long as no picture comes again."""
    values = [value for flag, _, value in (word.partition("=") for word in args) if flag == "--mm-processor-cache-gb"]
    return int(float(values[-1] if values else PICTURES_GIB) * 2**30)


def _weights(model: Path) -> int:
    files = list(model.glob("*.safetensors"))
    if not files:
        raise NotEnough(f"{model} has no weights (*.safetensors). Name a model's folder.")
    return sum(file.stat().st_size for file in files)


def available_bytes() -> int:
    """What may still be taken here, within the container's limit if there is one."""
    free = psutil.virtual_memory().available
    try:
        limit, taken = ((CGROUP / name).read_text().strip() for name in ("memory.max", "memory.current"))
        return min(free, int(limit) - int(taken))
    except (OSError, ValueError):  # no such limit: then the file is missing, or says "max"
        return free


def require(arrangements: Sequence[Arrangement], setting: Setting, available: int | None = None) -> None:
    """Return if all of these can be up at once.

    Raises:
        NotEnough: they cannot, as far as can be told.
    """
    if available is None:
        available = available_bytes()
    needs = {arrangement: memory_bytes(arrangement, setting) for arrangement in arrangements}
    total = sum(needs.values()) + SPARE_BYTES
    if total <= available:
        return
    each = ", ".join(f"{arrangement} {need / 1e9:.1f}" for arrangement, need in needs.items())
    raise NotEnough(
        f"About {total / 1e9:.1f} GB of memory are needed ({each}, {SPARE_BYTES / 1e9:.1f} to spare), and "
        f"{available / 1e9:.1f} GB are free. Cure: end what else runs, or compare fewer arrangements at a time."
    )
