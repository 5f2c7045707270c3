"""The RayJob that runs `chiasm serve` on the gateway's pod of a RayCluster that is there already.

Applying it again changes nothing: KubeRay submits a job under one id, and follows it if it runs. A second launcher for
the same cluster would wait, for the first holds all of the resource that its driver takes, and the actors' names.
"""

import json

from chiasm.config import ClusterConfig
from chiasm.kubernetes.names import (
    ACCOUNT,
    GATEWAY_RESOURCE,
    KEYS_FILE,
    Object,
    metadata,
    pod_labels,
)
from chiasm.kubernetes.pods import CONTAINER_SECURITY, HOME, POD_SECURITY
from chiasm.kubernetes.ray_cluster import CONFIG_FILE, KEYS_FOLDER

ENTRYPOINT = f"chiasm serve --config {CONFIG_FILE} --keys {KEYS_FOLDER}/{KEYS_FILE} --address auto"

FOLLOWER_FAILURES = 1000
"""How often the pod that submits the driver, and then follows its output, may fail until KubeRay gives up the launcher,
and with it what it knows of a driver that serves on: at least once for each loss of the head, in all of a cluster's
life. What can never be submitted is tried as often, for days (docs/operating.md). KubeRay's own is 2."""


def launcher(config: ClusterConfig) -> Object:
    """The RayJob of a configuration."""
    settings = config.kubernetes
    amounts = {"cpu": "500m", "memory": "512Mi"}
    container: Object = {
        "name": "ray-job-submitter",
        "image": settings.cpu_image or settings.image,
        "imagePullPolicy": "IfNotPresent",
        "securityContext": CONTAINER_SECURITY,
        "env": [{"name": "RAY_AUTH_MODE", "value": "token"}, {"name": "HOME", "value": HOME}],
        "resources": {"requests": amounts, "limits": amounts},
        "volumeMounts": [
            {"name": "scratch", "mountPath": "/tmp", "subPath": "tmp"},
            {"name": "scratch", "mountPath": HOME, "subPath": "home"},
        ],
    }
    return {
        "apiVersion": "ray.io/v1",
        "kind": "RayJob",
        "metadata": metadata(f"{settings.name}-launcher", "launcher"),
        "spec": {
            "clusterSelector": {"ray.io/cluster": settings.name},
            "submissionMode": "K8sJobMode",
            "entrypoint": ENTRYPOINT,
            "entrypointResources": json.dumps({GATEWAY_RESOURCE: 1}),
            "shutdownAfterJobFinishes": False,
            "submitterConfig": {"backoffLimit": FOLLOWER_FAILURES},
            "submitterPodTemplate": {
                "metadata": {"labels": pod_labels("launcher")},
                "spec": {
                    "restartPolicy": "Never",
                    "serviceAccountName": ACCOUNT,
                    "automountServiceAccountToken": False,
                    "securityContext": POD_SECURITY,
                    "containers": [container],
                    "volumes": [{"name": "scratch", "emptyDir": {"sizeLimit": "1Gi"}}],
                },
            },
        },
    }
