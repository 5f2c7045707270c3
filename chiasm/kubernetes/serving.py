"""What belongs to one cluster beside its pods: namespace, configuration, Service, and what drains leave alone."""

from chiasm.config import ClusterConfig
from chiasm.kubernetes.cluster_file import on_kubernetes
from chiasm.kubernetes.names import GATEWAY, HTTP_PORT, POOLS, Object, metadata, pods_of, pools
from chiasm.kubernetes.ray_cluster import config_map_name


def namespace(config: ClusterConfig) -> Object:
    """The namespace; what its pods ask for would pass the strictest of Kubernetes' standards for pods."""
    standards = {"pod-security.kubernetes.io/enforce": "baseline", "pod-security.kubernetes.io/warn": "restricted"}
    return {
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": metadata(config.kubernetes.namespace, "namespace", **standards),
    }


def config_map(config: ClusterConfig) -> Object:
    """The ConfigMap with `cluster.yaml`, which `chiasm serve` reads when it starts.

    Raises:
        CannotRender: something in it cannot be so on Kubernetes.
    """
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": metadata(config_map_name(config), "configuration"),
        "data": {"cluster.yaml": on_kubernetes(config)},
    }


def service(config: ClusterConfig) -> Object:
    """Where clients find the gateway. Its selector says which cluster serves: that is all that blue/green switches."""
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": metadata("chiasm", GATEWAY),
        "spec": {
            "type": "ClusterIP",
            "selector": pods_of(config.kubernetes.name, GATEWAY),
            "ports": [{"name": "http", "port": HTTP_PORT, "targetPort": "http", "protocol": "TCP"}],
        },
    }


def disruption_budgets(config: ClusterConfig) -> list[Object]:
    """Drains take one pod of a pool at a time, and never its last one, nor the gateway.

    They count what must stay, as a whole number: of pods whose owner has no scale, as a RayCluster has none,
    Kubernetes takes no other kind.
    """
    groups = {GATEWAY: 1, **{POOLS[name]: pool.count for name, pool in pools(config).items()}}
    return [
        {
            "apiVersion": "policy/v1",
            "kind": "PodDisruptionBudget",
            "metadata": metadata(f"{config.kubernetes.name}-{group}", group),
            "spec": {
                "minAvailable": max(1, count - 1),
                "selector": {"matchLabels": pods_of(config.kubernetes.name, group)},
            },
        }
        for group, count in groups.items()
    ]
