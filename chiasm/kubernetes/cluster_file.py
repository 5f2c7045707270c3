"""The `cluster.yaml` that pods read: the operator's own, and what must be so on Kubernetes.

Refuses what the manifests could not keep, and secrets, for a ConfigMap is no place for them.
"""

import re
from collections.abc import Iterator
from typing import Any

import yaml

from chiasm.config import ClusterConfig
from chiasm.hub import HUB_ID
from chiasm.kubernetes.names import (
    EMBEDDINGS_PORT,
    HTTP_PORT,
    POOL_LABEL,
    POOLS,
    SCHEDULER_PORT,
    WORKER_RESOURCE,
    pools,
)
from chiasm.kubernetes.placement import NODE_GROUP, wanted_labels
from chiasm.kubernetes.pods import MODELS, too_small
from chiasm.kubernetes.reachable import unreachable
from chiasm.pools import PoolConfig

_SECRET = re.compile(r"TOKEN|SECRET|PASSWORD|API_?KEY", re.IGNORECASE)
_SCHEME = re.compile(r"[a-z][a-z0-9+.-]*://")
_HEAD = "# Made by `chiasm render`, of the file that is meant to be changed.\n"


class CannotRender(ValueError):
    """No manifests can be made of this configuration; the message has a line for each reason, with its cure."""


def on_kubernetes(config: ClusterConfig) -> str:
    """The text of `cluster.yaml` in the ConfigMap.

    Raises:
        CannotRender: something in it cannot be so on Kubernetes.
    """
    if found := list(_reasons(config)):
        raise CannotRender("\n".join(found))
    data: dict[str, Any] = config.model_dump(exclude_unset=True, exclude={"kubernetes"})
    data.setdefault("gateway", {}).update(host="0.0.0.0", port=HTTP_PORT)
    data.setdefault("scheduler", {})["port"] = SCHEDULER_PORT
    data.setdefault("wire", {})["port"] = EMBEDDINGS_PORT
    for name, pool in pools(config).items():
        section = data.setdefault(name, {})
        section["labels"] = wanted_labels(name, pool)
        section["resources"] = {**pool.resources, WORKER_RESOURCE: 1.0}
    return _HEAD + yaml.safe_dump(data, sort_keys=True, width=120)


def _reasons(config: ClusterConfig) -> Iterator[str]:
    gateway = config.gateway
    if config.roles == "auto":
        yield (
            "roles: auto decides when a cluster starts, and pods are asked for before. Write down what `chiasm roles` "
            "says: count, gpus and --tensor-parallel-size of encoders and decoders, and the cards in kubernetes.nodes."
        )
    if reason := _out_of_reach(config):
        yield reason
    for field in ("api_keys", "api_key_weights", "operator_keys"):
        if getattr(gateway, field):
            yield f"gateway.{field}: a ConfigMap is no place for keys. Put them into the Secret (docs/kubernetes.md)."
    fixed = (
        ("gateway.host", gateway.host, ("127.0.0.1", "0.0.0.0"), "pods are asked at their addresses"),
        ("gateway.port", gateway.port, (HTTP_PORT,), "Service and NetworkPolicy name it"),
        ("scheduler.port", config.scheduler.port, (SCHEDULER_PORT,), "the NetworkPolicy names it"),
        ("wire.port", config.wire.port, (0, EMBEDDINGS_PORT), "the NetworkPolicy names it"),
    )
    for field, value, allowed, why in fixed:
        if value not in allowed:
            yield f"{field}: it is {allowed[-1]} on Kubernetes, for {why}; not {value}. Leave it out."
    for part in ("head", "gateway", *pools(config)):
        if reason := too_small(config, part):
            yield reason
    for name, pool in pools(config).items():
        yield from _pool_reasons(name, pool)
        if config.roles == "given":
            yield from unreachable(name, pool, config.kubernetes.nodes.get(name, {}))


def _out_of_reach(config: ClusterConfig) -> str | None:
    """Why no pod has the model's folder; None where the pods have it, or fetch the model themselves."""
    model, settings = config.model, config.kubernetes
    if not model or settings.model_in_pods or _is_fetched(model):
        return None
    if settings.model_claim is not None and f"{model}/".startswith(f"{MODELS}/"):
        return None
    return (
        f"model: {model} is a folder of this machine, and pods have none of those. Put it on a volume that all pods "
        f"can mount, name its claim in kubernetes.model_claim, and write where it is in the pods: {MODELS}/... If "
        "their image has it, or a volume of an overlay of yours, set kubernetes.model_in_pods. Or name the model as "
        "the hub does (docs/kubernetes.md)."
    )


def _is_fetched(model: str) -> bool:
    """Whether it is named as on the hub, or by an address such as `s3://...`."""
    return _SCHEME.match(model) is not None or (HUB_ID.fullmatch(model) is not None and not model.startswith("."))


def _pool_reasons(name: str, pool: PoolConfig) -> Iterator[str]:
    group = POOLS[name]
    if pool.gpus != int(pool.gpus):
        yield f"{name}.gpus: a pod has whole GPUs; not {pool.gpus}. Two engines share a card by scheduler.stealing."
    if pool.cpus is not None:
        yield f"{name}.cpus: which cores a pod gets, Kubernetes decides. Leave it out, and set kubernetes.cpus.{name}."
    for key, value in pool.labels.items():
        if key in (NODE_GROUP, POOL_LABEL) and value != group:
            yield f"{name}.labels: the worker group is called {group}; not {value}. Write {key}: {group}."
        elif key.startswith("ray.io/") and key not in (NODE_GROUP, "ray.io/accelerator-type"):
            yield f"{name}.labels: Ray sets {key} itself, and no pod can be made to have it. Choose nodes by others."
    if secrets := sorted(key for key in pool.env if _SECRET.search(key)):
        yield (
            f"{name}.env: {secrets[0]} looks like a secret, and a ConfigMap is no place for it. The hub's token goes "
            "into the Secret chiasm-hub (docs/kubernetes.md)."
        )
