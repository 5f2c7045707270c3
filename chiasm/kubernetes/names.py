"""Names, labels and ports that the manifests have in common."""

from chiasm.config import ClusterConfig, GatewayConfig, SchedulerConfig
from chiasm.pools import PoolConfig

Object = dict[str, object]
"""A manifest, or a piece of one, as JSON would have it."""

RAY_VERSION = "2.60.0"

GATEWAY = "gateway"
POOLS = {"encoders": "encoder", "decoders": "decoder", "wholes": "whole"}
"""Worker groups of the Ray cluster, by what `cluster.yaml` calls the pool."""

HTTP_PORT = GatewayConfig().port
SCHEDULER_PORT = SchedulerConfig().port
EMBEDDINGS_PORT = 7600
ENGINE_PORTS = (32768, 60999)
"""Linux gives free ports out of these (net.ipv4.ip_local_port_range), and engines listen at free ones."""

GCS_PORT = 6379
DASHBOARD_PORT = 8265
RAY_PORTS = {
    "node-manager-port": 6380,
    "object-manager-port": 6381,
    "runtime-env-agent-port": 6382,
    "dashboard-agent-grpc-port": 6383,
    "dashboard-agent-listen-port": 52365,
    "metrics-export-port": 8080,
}
"""What a Ray node listens at, by the option of `ray start`. Left to itself, Ray takes free ports for some."""

RAY_WORKER_PORTS = (10002, 10999)

PART_OF = {"app.kubernetes.io/part-of": "chiasm"}
POOL_LABEL = "chiasm-pool"
"""Ray's label of a node, by which workers find the pods of their pool, whatever other labels `cluster.yaml` has."""

WORKER_RESOURCE = "chiasm-worker"
"""Ray's resource of a node, of which each worker takes all: a pod has one worker, as it has one address."""

GATEWAY_RESOURCE = "chiasm-gateway"
"""Ray's resource of the node on which `chiasm serve` runs, and with it gateway and scheduler."""

KEYS_SECRET = "chiasm-keys"
KEYS_FILE = "keys.yaml"
REDIS_SECRET = "chiasm-redis"
HUB_SECRET = "chiasm-hub"
ACCOUNT = "chiasm"
REDIS = "chiasm-redis"


def metadata(name: str, component: str, **labels: str) -> Object:
    """Metadata of an object; `component` is what it is for."""
    named = {"app.kubernetes.io/name": "chiasm", "app.kubernetes.io/component": component}
    return {"name": name, "labels": {**named, **PART_OF, **labels}}


def pod_labels(component: str) -> dict[str, str]:
    """Labels of pods that KubeRay makes. It sets `app.kubernetes.io/name` itself, and finds the head by it."""
    return {**PART_OF, "app.kubernetes.io/component": component}


def pools(config: ClusterConfig) -> dict[str, PoolConfig]:
    """The pools that have workers, by their name in `cluster.yaml`."""
    every = {"encoders": config.encoders, "decoders": config.decoders, "wholes": config.wholes}
    return {name: pool for name, pool in every.items() if pool.count}


def pods_of(cluster: str, group: str) -> dict[str, str]:
    """Labels of the pods of one group, as KubeRay sets them."""
    return {"ray.io/cluster": cluster, "ray.io/group": group}
