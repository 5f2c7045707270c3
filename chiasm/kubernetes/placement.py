"""On which pods the workers of a pool may be: labels of the worker groups, and what Ray is asked for.

A group has a label of its own, and so its workers find it even where all cards are of one kind. Only a fallback leads
to another.
"""

from collections.abc import Mapping

from chiasm.config import ClusterConfig
from chiasm.kubernetes.names import POOL_LABEL, POOLS, pools
from chiasm.landing import fits
from chiasm.pools import PoolConfig

NODE_GROUP = "ray.io/node-group"
"""Ray's label of a node, with the name of the worker group; of all that Ray sets the only one known beforehand."""


def group_labels(name: str, pool: PoolConfig) -> dict[str, str]:
    """Labels that the Ray nodes of this pool get, beside those that Ray gives them itself."""
    return {key: value for key, value in wanted_labels(name, pool).items() if not _by_ray(key)}


def wanted_labels(name: str, pool: PoolConfig) -> dict[str, str]:
    """Labels by which the workers of this pool find their nodes: the pool's own, and its group's."""
    return {**pool.labels, POOL_LABEL: POOLS[name]}


def homes(config: ClusterConfig, name: str, pool: PoolConfig) -> list[str]:
    """The worker groups on whose pods workers of this pool may be: its own first, then those that fallbacks lead to."""
    found = {group for selector in pool.fallbacks for group in groups_with(config, selector, pool.gpus)}
    return [POOLS[name], *(group for group in POOLS.values() if group in found and group != POOLS[name])]


def groups_with(config: ClusterConfig, selector: Mapping[str, str], gpus: float) -> list[str]:
    """The worker groups whose pods have these labels, as Ray's selectors choose by them, and at least so many GPUs.

    Any pod may have a label that Ray sets itself, such as that of its card.
    """
    known = {key: wanted for key, wanted in selector.items() if key == NODE_GROUP or not _by_ray(key)}
    return [
        POOLS[name]
        for name, pool in pools(config).items()
        if pool.gpus >= gpus and fits(known, {**group_labels(name, pool), NODE_GROUP: POOLS[name]})
    ]


def _by_ray(label: str) -> bool:
    return label.startswith("ray.io/")
