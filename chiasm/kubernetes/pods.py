"""Templates of pods: what each container may do, what it may use, and what it may write to.

The root file system is read-only. Ray's session, the caches of torch and vLLM and whatever else is written lie in
volumes that end with the pod.
"""

import math

from chiasm.config import ClusterConfig
from chiasm.kubernetes.names import ACCOUNT, HUB_SECRET, POOLS, Object, pod_labels
from chiasm.kubernetes.placement import homes
from chiasm.kubernetes.settings import in_bytes, toleration

USER = 1000
HOME = "/home/chiasm"
MODELS = "/models"
GPU = "nvidia.com/gpu"
GPU_TAINT = f"{GPU}:NoSchedule"

OBJECT_STORE_BYTES = 256 << 20
"""Ray's object store: it carries handles and the configuration, and no tensors."""

ENGINE_SHM_BYTES = 2 << 30
"""What vLLM's processes share beside embeddings: inputs of requests, messages between ranks."""

SCRATCH = "8Gi"

LEAVE = ["chiasm", "drain"]
END_DRIVER = ["python", "-m", "chiasm.kubernetes.end_driver"]
"""Kubernetes takes a pod away whatever is being answered there: so one of these is done first, and then Ray is told to
end. Where the driver runs, it is the driver that drains."""

ENDING_S = 60
"""What a pod of a pool may take to end beside `gateway.drain_s`: to join Ray, and to stop an engine."""

STOP_S = 180
"""What `chiasm serve` may take to stop beside `gateway.drain_s`: what is not done by then is killed."""

CONTAINER_SECURITY: Object = {
    "allowPrivilegeEscalation": False,
    "readOnlyRootFilesystem": True,
    "capabilities": {"drop": ["ALL"]},
}
POD_SECURITY: Object = {
    "runAsNonRoot": True,
    "runAsUser": USER,
    "runAsGroup": USER,
    "fsGroup": USER,
    "seccompProfile": {"type": "RuntimeDefault"},
}


def shm_bytes(config: ClusterConfig, part: str) -> int:
    """Bytes of /dev/shm: an engine keeps embeddings there, so that they are not copied from process to process. A pod
    has one worker, which may be a decoder that a fallback has led there."""
    if part not in POOLS:
        return OBJECT_STORE_BYTES
    embeddings = config.wire.store_bytes if part == "encoders" else 0
    if POOLS[part] in homes(config, "decoders", config.decoders):
        embeddings = max(embeddings, config.wire.landing_bytes)
    return OBJECT_STORE_BYTES + ENGINE_SHM_BYTES + embeddings


def template(config: ClusterConfig, part: str, group: str, image: str, gpus: int = 0, **more: list[Object]) -> Object:
    """The pod template of one part of the cluster; `more` is added to its container's `ports`, `env`, `volumeMounts`
    and to the pod's `volumes`."""
    settings = config.kubernetes
    amounts: dict[str, object] = {"cpu": str(settings.cpus_of(part)), "memory": settings.memory_of(part)}
    if gpus:
        amounts[GPU] = str(gpus)
    taints = ([GPU_TAINT] if gpus else []) + settings.tolerations.get(part, [])
    container: Object = {
        "name": "ray-head" if part == "head" else "ray-worker",
        "image": image,
        "imagePullPolicy": "IfNotPresent",
        "securityContext": CONTAINER_SECURITY,
        "env": [*_environment(part), *more.get("env", [])],
        "resources": {"requests": amounts, "limits": amounts},
        "volumeMounts": [*_mounts(), *more.get("volumeMounts", [])],
    }
    if ports := more.get("ports"):
        container["ports"] = ports
    spec: Object = {
        "serviceAccountName": ACCOUNT,
        "automountServiceAccountToken": False,
        "securityContext": POD_SECURITY,
        "containers": [container],
        "volumes": [*_volumes(config, part), *more.get("volumes", [])],
    }
    if part != "head":
        hook, more_s = (LEAVE, ENDING_S) if part in POOLS else (END_DRIVER, STOP_S)
        container["lifecycle"] = {"preStop": {"exec": {"command": hook}}}
        spec["terminationGracePeriodSeconds"] = math.ceil(config.gateway.drain_s) + more_s
    if nodes := settings.nodes.get(part):
        spec["nodeSelector"] = dict(sorted(nodes.items()))
    if taints:
        spec["tolerations"] = [toleration(taint) for taint in dict.fromkeys(taints)]
    if part != "head":
        spec["topologySpreadConstraints"] = [_spread(config.kubernetes.name, group)]
    return {"metadata": {"labels": pod_labels(part)}, "spec": spec}


def _environment(part: str) -> list[Object]:
    env: list[Object] = [
        {"name": "RAY_AUTH_MODE", "value": "token"},
        {"name": "HOME", "value": HOME},
        {"name": "HF_HOME", "value": MODELS},
        {
            "name": "HF_TOKEN",
            "valueFrom": {"secretKeyRef": {"name": HUB_SECRET, "key": "token", "optional": True}},
        },
    ]
    if part in ("head", "gateway"):
        env.append({"name": "CUDA_VISIBLE_DEVICES", "value": ""})
    if part in POOLS:
        # Told to end, Ray would wait for its node to be idle, which one with a worker never is. This one has left.
        env.append({"name": "RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S", "value": "0"})
    return env


def _mounts() -> list[Object]:
    return [
        {"name": "shm", "mountPath": "/dev/shm"},
        {"name": "scratch", "mountPath": "/tmp", "subPath": "tmp"},
        {"name": "scratch", "mountPath": HOME, "subPath": "home"},
        {"name": "models", "mountPath": MODELS},
    ]


def _volumes(config: ClusterConfig, part: str) -> list[Object]:
    settings = config.kubernetes
    models: Object = {"name": "models", "emptyDir": {"sizeLimit": settings.model_cache}}
    if settings.model_claim is not None:
        models = {"name": "models", "persistentVolumeClaim": {"claimName": settings.model_claim}}
    mebibytes = shm_bytes(config, part) >> 20
    return [
        {"name": "shm", "emptyDir": {"medium": "Memory", "sizeLimit": f"{mebibytes}Mi"}},
        {"name": "scratch", "emptyDir": {"sizeLimit": SCRATCH}},
        models,
    ]


def _spread(cluster: str, group: str) -> Object:
    return {
        "maxSkew": 1,
        "topologyKey": "kubernetes.io/hostname",
        "whenUnsatisfiable": "ScheduleAnyway",
        "labelSelector": {"matchLabels": {"ray.io/cluster": cluster, "ray.io/group": group}},
    }


def too_small(config: ClusterConfig, part: str) -> str | None:
    """Why the memory of this part's pods does not do, if so: what lies in /dev/shm counts as the pod's."""
    memory = config.kubernetes.memory_of(part)
    if in_bytes(memory) >= 2 * (shared := shm_bytes(config, part)):
        return None
    return (
        f"kubernetes.memory.{part}: of {memory}, {shared >> 20} MiB may be in /dev/shm, which is more than half. Raise "
        "it, or lower wire.store_bytes and wire.landing_bytes."
    )
