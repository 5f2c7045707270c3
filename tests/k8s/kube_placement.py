"""On which pods Ray could place each worker, as the code asks for it (`chiasm.cluster`)."""

from collections.abc import Iterator, Mapping
from typing import Any

import yaml
from kube_pods import Object, Pods, all_pods, of_kind

from chiasm.config import ClusterConfig
from chiasm.kubernetes.names import POOLS, pools
from chiasm.kubernetes.pods import GPU
from chiasm.landing import fits
from chiasm.pools import PoolConfig


def cluster_yaml(objects: list[Object]) -> ClusterConfig:
    """The configuration in the ConfigMap."""
    texts = [each["data"]["cluster.yaml"] for each in of_kind(objects, "ConfigMap") if "cluster.yaml" in each["data"]]
    [text] = texts
    return ClusterConfig.model_validate(yaml.safe_load(text))


def ray_pods(objects: list[Object]) -> dict[str, Pods]:
    """The pods of the Ray cluster, by their group."""
    return {pods.ray_group["groupName"]: pods for pods in all_pods(objects) if pods.ray_group is not None}


def homes(objects: list[Object], name: str) -> set[str]:
    """The groups on whose pods workers of a pool may be: where they belong, and where fallbacks lead."""
    pool = pools(cluster_yaml(objects))[name]
    selectors = (pool.labels, *pool.fallbacks)
    return {group for group, pods in ray_pods(objects).items() if any(_takes(pods, pool, one) for one in selectors)}


def _takes(pods: Pods, pool: PoolConfig, selector: Mapping[str, str]) -> bool:
    """Whether a worker of the pool fits on these pods; of labels that Ray sets itself, any may be there."""
    group: Any = pods.ray_group
    labels = {**group.get("labels", {}), "ray.io/node-group": group["groupName"]}
    amounts = {key: float(value) for key, value in group.get("resources", {}).items()}
    known = {key: value for key, value in selector.items() if key in labels or not key.startswith("ray.io/")}
    has_all = all(amounts.get(key, 0) >= each for key, each in pool.resources.items())
    return fits(known, labels) and _cards(pods) >= pool.gpus and has_all


def _cards(pods: Pods) -> float:
    return float(pods.container["resources"]["limits"].get(GPU, 0))


def placement_faults(objects: list[Object]) -> Iterator[str]:
    """Whether every worker has a pod of its own group, and no other but by a fallback."""
    for name, pool in pools(cluster_yaml(objects)).items():
        room = 0
        for group, pods in ray_pods(objects).items():
            if _takes(pods, pool, pool.labels):
                room += pods.count
                if _cards(pods) != pool.gpus:
                    yield f"{pods.owner} has {_cards(pods):g} GPUs and its worker takes {pool.gpus:g}"
                if group != POOLS[name]:
                    yield f"{name} could be placed on {pods.owner}"
        if room < pool.count:
            yield f"{name}: of {pool.count} workers only {room} have a pod with their labels, resources and GPUs"
