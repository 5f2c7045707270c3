"""The RayCluster: a head that survives by Redis, one gateway, and a worker group for each pool, a pod for each worker.

Autoscaling of the pools comes with a controller that asks Ray for nodes; until then each group has as many pods as
its pool has workers, and `minReplicas` equals `maxReplicas`.
"""

import math

from chiasm.config import ClusterConfig
from chiasm.kubernetes.names import (
    DASHBOARD_PORT,
    EMBEDDINGS_PORT,
    GATEWAY,
    GATEWAY_RESOURCE,
    GCS_PORT,
    HTTP_PORT,
    KEYS_SECRET,
    POOL_LABEL,
    POOLS,
    RAY_PORTS,
    RAY_VERSION,
    RAY_WORKER_PORTS,
    REDIS,
    REDIS_SECRET,
    SCHEDULER_PORT,
    WORKER_RESOURCE,
    Object,
    metadata,
    pools,
)
from chiasm.kubernetes.placement import group_labels
from chiasm.kubernetes.pods import OBJECT_STORE_BYTES, STOP_S, template
from chiasm.pools import PoolConfig

CONFIG_FOLDER = "/etc/chiasm"
CONFIG_FILE = f"{CONFIG_FOLDER}/cluster.yaml"
KEYS_FOLDER = "/etc/chiasm-keys"


def config_map_name(config: ClusterConfig) -> str:
    """The ConfigMap with `cluster.yaml`."""
    return f"{config.kubernetes.name}-config"


def ray_cluster(config: ClusterConfig) -> Object:
    """The RayCluster of a configuration."""
    settings = config.kubernetes
    password = {"secretKeyRef": {"name": REDIS_SECRET, "key": "password"}}
    return {
        "apiVersion": "ray.io/v1",
        "kind": "RayCluster",
        "metadata": metadata(settings.name, "ray"),
        "spec": {
            "rayVersion": RAY_VERSION,
            "authOptions": {"mode": "token"},
            "gcsFaultToleranceOptions": {
                "redisAddress": f"redis://{REDIS}:6379",
                "redisPassword": {"valueFrom": password},
            },
            "headGroupSpec": _head(config),
            "workerGroupSpecs": [
                _gateway(config),
                *(_workers(config, name, pool) for name, pool in pools(config).items()),
            ],
        },
    }


def _start_params() -> dict[str, str]:
    least, most = RAY_WORKER_PORTS
    params = {"object-store-memory": OBJECT_STORE_BYTES, "min-worker-port": least, "max-worker-port": most}
    return {option: str(value) for option, value in {**params, **RAY_PORTS}.items()}


def _light_image(config: ClusterConfig) -> str:
    return config.kubernetes.cpu_image or config.kubernetes.image


def _head(config: ClusterConfig) -> Object:
    ports: list[Object] = [
        {"name": "gcs-server", "containerPort": GCS_PORT},
        {"name": "dashboard", "containerPort": DASHBOARD_PORT},
    ]
    return {
        "rayStartParams": {**_start_params(), "dashboard-host": "0.0.0.0"},
        "resources": {"CPU": "0"},  # nothing but Ray's own runs there
        "template": template(config, "head", "headgroup", _light_image(config), ports=ports),
    }


def _gateway(config: ClusterConfig) -> Object:
    """One pod, on which the launcher's driver runs, and gateway and scheduler beside it.

    Its readiness is that of Ray's node: a probe of the gateway's own port would keep the cluster from being ready, for
    which the launcher waits that starts the gateway.
    """
    ports: list[Object] = [
        {"name": "http", "containerPort": HTTP_PORT},
        {"name": "scheduler", "containerPort": SCHEDULER_PORT},
    ]
    mounts: list[Object] = [
        {"name": "config", "mountPath": CONFIG_FOLDER, "readOnly": True},
        {"name": "keys", "mountPath": KEYS_FOLDER, "readOnly": True},
    ]
    stopping: Object = {"name": "RAY_JOB_STOP_WAIT_TIME_S", "value": str(math.ceil(config.gateway.drain_s) + STOP_S)}
    volumes: list[Object] = [
        {"name": "config", "configMap": {"name": config_map_name(config)}},
        {"name": "keys", "secret": {"secretName": KEYS_SECRET}},
    ]
    pod = template(
        config,
        "gateway",
        GATEWAY,
        _light_image(config),
        env=[stopping],
        ports=ports,
        volumeMounts=mounts,
        volumes=volumes,
    )
    return _group(GATEWAY, 1, {POOL_LABEL: GATEWAY}, {GATEWAY_RESOURCE: "1"}, pod)


def _workers(config: ClusterConfig, name: str, pool: PoolConfig) -> Object:
    ports: list[Object] = []
    if name == "encoders":
        ports = [{"name": "embeddings", "containerPort": EMBEDDINGS_PORT}]
    pod = template(config, name, POOLS[name], config.kubernetes.image, int(pool.gpus), ports=ports)
    resources = {resource: f"{amount:g}" for resource, amount in sorted(pool.resources.items())}
    return _group(POOLS[name], pool.count, group_labels(name, pool), {**resources, WORKER_RESOURCE: "1"}, pod)


def _group(name: str, count: int, labels: dict[str, str], resources: dict[str, str], pod: Object) -> Object:
    group: Object = {"groupName": name, "replicas": count, "minReplicas": count, "maxReplicas": count}
    if labels:
        group["labels"] = dict(sorted(labels.items()))
    group["resources"] = resources
    return {**group, "rayStartParams": _start_params(), "template": pod}
