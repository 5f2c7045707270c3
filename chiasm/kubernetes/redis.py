"""Redis, in which Ray's head keeps what it knows: a head that died goes on where it was, and engines with it."""

from chiasm.kubernetes.names import REDIS, REDIS_SECRET, Object, metadata, pod_labels
from chiasm.kubernetes.pods import CONTAINER_SECURITY, POD_SECURITY

IMAGE = "redis:7.2.6-bookworm"
PORT = 6379
USER = 999  # of the image

_SELECTOR = pod_labels("redis")
_PING = {"exec": {"command": ["sh", "-c", 'REDISCLI_AUTH="$REDIS_PASSWORD" redis-cli ping | grep -q PONG']}}


def redis() -> list[Object]:
    """One Redis with a disk of its own, and the Service by which the head finds it."""
    return [_service(), _stateful_set()]


def _service() -> Object:
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": metadata(REDIS, "redis"),
        "spec": {
            "clusterIP": "None",
            "selector": _SELECTOR,
            "ports": [{"name": "redis", "port": PORT, "targetPort": "redis", "protocol": "TCP"}],
        },
    }


def _stateful_set() -> Object:
    amounts = {"cpu": "500m", "memory": "512Mi"}
    container: Object = {
        "name": "redis",
        "image": IMAGE,
        "command": ["sh", "-c"],
        # Every write is on the disk before Ray is told: a head that restarts must not find an older world.
        "args": ['exec redis-server --dir /data --appendonly yes --appendfsync always --requirepass "$REDIS_PASSWORD"'],
        "env": [
            {
                "name": "REDIS_PASSWORD",
                "valueFrom": {"secretKeyRef": {"name": REDIS_SECRET, "key": "password"}},
            }
        ],
        "ports": [{"name": "redis", "containerPort": PORT}],
        "securityContext": CONTAINER_SECURITY,
        "resources": {"requests": amounts, "limits": amounts},
        "readinessProbe": {**_PING, "periodSeconds": 5},
        "livenessProbe": {**_PING, "periodSeconds": 20, "failureThreshold": 6},
        "volumeMounts": [{"name": "data", "mountPath": "/data"}],
    }
    claim = {
        "metadata": {"name": "data"},
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}},
    }
    return {
        "apiVersion": "apps/v1",
        "kind": "StatefulSet",
        "metadata": metadata(REDIS, "redis"),
        "spec": {
            "serviceName": REDIS,
            "replicas": 1,
            "selector": {"matchLabels": _SELECTOR},
            "template": {
                "metadata": {"labels": _SELECTOR},
                "spec": {
                    "automountServiceAccountToken": False,
                    "securityContext": {**POD_SECURITY, "runAsUser": USER, "runAsGroup": USER, "fsGroup": USER},
                    "containers": [container],
                },
            },
            "volumeClaimTemplates": [claim],
        },
    }
