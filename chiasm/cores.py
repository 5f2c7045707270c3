"""Which cores of this machine an engine is bound to, and which are left to all that is no engine.

It matters where a cluster has one machine to itself. On Kubernetes, and on hosts of their own, pods and hosts do this.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager

from chiasm.config import ClusterConfig
from chiasm.engine_guard import parse_cpus
from chiasm.pools import PoolConfig

MOST_PER_CORE_LEFT = 8
"""Of this machine's cores, to each that is left to what is no engine. With two cores that is busy for about a tenth."""


def share_cores(config: ClusterConfig) -> dict[str, str]:
    """This machine's cores, dealt evenly to the workers that have neither GPUs nor cores of their own.

    Nobody is bound where there are fewer cores than workers. An engine polls for a second after each step, yielding
    all the while. Two that poll on one core can keep each other from it for as long (seen on Linux 6.18), and a decoder
    that waits for its embedding would keep the very encoder waiting that is to deliver it. A text engine has the cores
    of its encoder: the two take turns.
    """
    names = [
        f"{kind}-{index}"
        for kind, pool in (("encoder", config.encoders), ("decoder", config.decoders), ("whole", config.wholes))
        if not pool.gpus and pool.cpus is None
        for index in range(pool.count)
    ]
    cores = sorted(os.sched_getaffinity(0))
    each = len(cores) // max(1, len(names))
    if each == 0:
        return {}
    return {
        name: ",".join(map(str, cores[position * each : (position + 1) * each])) for position, name in enumerate(names)
    }


def beside_decoders(config: ClusterConfig) -> set[int] | None:
    """The cores for Ray, scheduler and gateway: all on which nobody decodes. None leaves it to the system.

    So it is where some worker is bound to no cores, or its role is still to be found, and where too few would be left.
    An encoder that polls after an image makes its core look as busy as the decoder's, so the system would let them
    interrupt either; and each such moment delays every stream on a decoder, but one image at most on an encoder.
    """
    if config.roles == "auto":
        return None
    dealt = share_cores(config)
    cores = os.sched_getaffinity(0)
    free = cores
    for kind, pool in (("encoder", config.encoders), ("decoder", config.decoders), ("whole", config.wholes)):
        bound = [cores_of(f"{kind}-{index}", index, pool, dealt) for index in range(pool.count)]
        if None in bound:
            return None
        if kind != "encoder" or config.scheduler.stealing != "off":  # a text engine has its encoder's cores
            free = free.difference(*(parse_cpus(cpus) for cpus in bound if cpus is not None))
    return free if free and len(cores) <= MOST_PER_CORE_LEFT * len(free) else None


def cores_of(name: str, index: int, pool: PoolConfig, dealt: dict[str, str]) -> str | None:
    """Those that the worker of this `name` and `index` in its pool is bound to, as `0-3`; None leaves it to the system.

    `dealt` is what `share_cores` says, or nothing where workers have hosts of their own.
    """
    return pool.cpus[index % len(pool.cpus)] if pool.cpus else dealt.get(name)


@contextmanager
def started_on(cores: set[int] | None) -> Iterator[None]:
    """What this thread starts within the context runs on these cores only, of those it may use; None: as it does."""
    if cores is None:
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)
