"""What KubeRay's controller refuses, so that `chiasm render` refuses it first, and by the same rule.

The rules are those of KubeRay v1.7.0's ray-operator (`controllers/ray/utils/validation.go`) with its default feature
gates, as far as they concern fields that these manifests have or might be given. KubeRay admits such an object all
the same; it then stays as it is, with an event that only those see who look.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from chiasm.labels import is_label_name, is_label_value

MAX_NAME = {"RayCluster": 53, "RayJob": 47}

_DNS_1035 = re.compile(r"[a-z]([-a-z0-9]*[a-z0-9])?")
_VERSION = re.compile(r"v?(\d+)\.(\d+)(\.\d+)*")
_RESOURCE_PARAMS = ("num-cpus", "num-gpus", "memory", "resources")
_GATED = {
    "networkPolicy": "RayClusterNetworkPolicy",
    "tlsOptions": "RayClusterMTLS",
    "historyServerOptions": "RayClusterHistoryServer",
}
_V2 = "RAY_enable_autoscaler_v2"


@dataclass(frozen=True)
class Refusal:
    """Why KubeRay would not act on an object: the rule's name, and what breaks it."""

    rule: str
    message: str

    def __str__(self) -> str:
        return f"KubeRay's rule {self.rule}: {self.message}"


def refusals(thing: dict[str, Any]) -> list[Refusal]:
    """Every rule of KubeRay's that a RayCluster or a RayJob breaks; of other kinds there are none."""
    check = {"RayCluster": _cluster, "RayJob": _job}.get(thing["kind"])
    return list(check(thing)) if check is not None else []


def of_name(kind: str, name: str) -> Iterator[Refusal]:
    """Every rule that the name of a RayCluster or a RayJob breaks."""
    if len(name) > (most := MAX_NAME[kind]):
        yield Refusal("name-length", f"{kind} {name} has {len(name)} characters; at most {most} are allowed.")
    if not _DNS_1035.fullmatch(name):
        yield Refusal("name-form", f"{kind} {name} must be lower-case letters, digits and -, and begin with a letter.")


def _cluster(cluster: dict[str, Any]) -> Iterator[Refusal]:
    yield from of_name("RayCluster", cluster["metadata"]["name"])
    kind = cluster["spec"].get("upgradeStrategy", {}).get("type")
    if kind not in (None, "Recreate", "None"):
        yield Refusal("upgrade-strategy", f"spec.upgradeStrategy.type is Recreate or None; not {kind}.")
    yield from cluster_spec(cluster["spec"], cluster["metadata"].get("annotations", {}))


def cluster_spec(spec: dict[str, Any], annotations: dict[str, str]) -> Iterator[Refusal]:
    """What breaks a rule in the spec of a RayCluster, or of the one in a RayJob."""
    head = spec["headGroupSpec"]
    if not _containers(head):
        yield Refusal("head-container", "headGroupSpec has no container.")
        return
    yield from _group("Head", head)
    for group in spec.get("workerGroupSpecs", []):
        yield from _worker_group(group, spec)
    yield from _fault_tolerance(spec, annotations)
    yield from _autoscaler(spec)
    yield from _auth(spec)
    for field, gate in _GATED.items():
        if spec.get(field) is not None:
            yield Refusal("feature-gate", f"spec.{field} needs KubeRay's feature gate {gate}, which is off by default.")


def _group(name: str, group: dict[str, Any]) -> Iterator[Refusal]:
    params = group.get("rayStartParams") or {}
    if group.get("resources") and (both := [param for param in _RESOURCE_PARAMS if params.get(param)]):
        yield Refusal(
            "resources-once", f"group {name} has resources and rayStartParams.{both[0]}, which say the same. Keep one."
        )
    if "labels" in params:
        yield Refusal("labels-field", f"group {name} has rayStartParams.labels. Use the group's own field labels.")
    for key, value in (group.get("labels") or {}).items():
        if not is_label_name(key):
            yield Refusal("label-key", f'group {name} has the label "{key}", which is no name of a label.')
        if not is_label_value(value):
            yield Refusal("label-value", f'group {name} has "{value}" for the label {key}, which no label may be.')


def _worker_group(group: dict[str, Any], spec: dict[str, Any]) -> Iterator[Refusal]:
    name = group["groupName"]
    if not _containers(group):
        yield Refusal("worker-container", f"worker group {name} has no container.")
        return
    least, most = group.get("minReplicas"), group.get("maxReplicas")
    if not _autoscaling(spec) and (least is None or most is None):
        yield Refusal("replica-bounds", f"worker group {name} needs minReplicas and maxReplicas without autoscaling.")
    for field, value in (("minReplicas", least), ("maxReplicas", most)):
        if value is not None and value < 0:
            yield Refusal("replica-sign", f"worker group {name} has {field} {value}.")
    if least is not None and most is not None and least > most:
        yield Refusal("replica-order", f"worker group {name} has minReplicas {least} above maxReplicas {most}.")
    yield from _group(name, group)
    idle = group.get("idleTimeoutSeconds")
    if idle is not None and idle < 0:
        yield Refusal("idle-timeout", f"worker group {name} has idleTimeoutSeconds {idle}.")
    elif idle is not None and not _autoscaler_v2(spec):
        yield Refusal("idle-timeout", f"worker group {name} has idleTimeoutSeconds, which only autoscaler v2 knows.")
    if group.get("priority"):
        if not _at_least(spec.get("rayVersion"), (2, 56)):
            yield Refusal("priority", f"worker group {name} has a priority, which needs rayVersion 2.56.0 or later.")
        elif not _autoscaler_v2(spec):
            yield Refusal("priority", f"worker group {name} has a priority, which only autoscaler v2 knows.")
    if group.get("suspend") and _autoscaling(spec):
        yield Refusal("suspend", f"worker group {name} cannot be suspended with the autoscaler.")


def _fault_tolerance(spec: dict[str, Any], annotations: dict[str, str]) -> Iterator[Refusal]:
    options = spec.get("gcsFaultToleranceOptions")
    head = spec["headGroupSpec"]
    params, env = head.get("rayStartParams") or {}, _env(head)
    by_annotation = annotations.get("ray.io/ft-enabled", "")
    if "redis-username" in params or "REDIS_USERNAME" in env:
        yield Refusal("redis-username", "the head has a user of Redis. Use gcsFaultToleranceOptions.redisUsername.")
    if options is None:
        if by_annotation.lower() != "true" and "RAY_REDIS_ADDRESS" in env:
            yield Refusal("redis-implied", "the head has RAY_REDIS_ADDRESS, but there are no gcsFaultToleranceOptions.")
        return
    if by_annotation:
        yield Refusal("ft-twice", "the annotation ray.io/ft-enabled and gcsFaultToleranceOptions are both there.")
    if params.get("redis-password") or "REDIS_PASSWORD" in env:
        yield Refusal("redis-password", "the head has Redis' password. Use gcsFaultToleranceOptions.redisPassword.")
    if "RAY_REDIS_ADDRESS" in env:
        yield Refusal("redis-address", "the head has RAY_REDIS_ADDRESS. Use gcsFaultToleranceOptions.redisAddress.")
    if annotations.get("ray.io/external-storage-namespace"):
        yield Refusal("storage-namespace", "use gcsFaultToleranceOptions.externalStorageNamespace, no annotation.")
    if options.get("backend") == "rocksdb":
        yield Refusal(
            "feature-gate", "the back end rocksdb needs KubeRay's feature gate GCSFaultToleranceEmbeddedStorage."
        )
    elif options.get("storage") is not None:
        yield Refusal("redis-storage", "gcsFaultToleranceOptions.storage is for the back end rocksdb alone.")


def _autoscaler(spec: dict[str, Any]) -> Iterator[Refusal]:
    options = spec.get("autoscalerOptions") or {}
    env = _env(spec["headGroupSpec"])
    if not _autoscaling(spec) and env.get(_V2) in ("1", "true"):
        yield Refusal("autoscaler-off", f"the head has {_V2}, but enableInTreeAutoscaling is not true.")
    if options.get("idleTimeoutSeconds", 0) < 0:
        yield Refusal("idle-timeout", "autoscalerOptions.idleTimeoutSeconds is negative.")
    if "KUBERAY_GEN_AUTOSCALER_START_CMD" in {each["name"] for each in options.get("env", [])}:
        yield Refusal(
            "autoscaler-command", "autoscalerOptions.env has KUBERAY_GEN_AUTOSCALER_START_CMD, which KubeRay sets."
        )
    if not _autoscaling(spec):
        return
    if options.get("version") and _V2 in env:
        yield Refusal(
            "autoscaler-twice", f"autoscalerOptions.version and the head's {_V2} are both there. Keep the first."
        )
    if options.get("version") == "v2":
        named = [("the head", spec["headGroupSpec"])]
        named += [(f"worker group {group['groupName']}", group) for group in spec.get("workerGroupSpecs", [])]
        for who, group in named:
            if group["template"]["spec"].get("restartPolicy", "Never") != "Never":
                yield Refusal("restart-policy", f"restartPolicy of {who} must be Never or unset with autoscaler v2.")


def _auth(spec: dict[str, Any]) -> Iterator[Refusal]:
    options = spec.get("authOptions") or {}
    by_kubernetes = options.get("enableK8sTokenAuth", False)
    if options.get("mode") != "token":
        if by_kubernetes:
            yield Refusal("auth-mode", "authOptions.enableK8sTokenAuth needs authOptions.mode token.")
        return
    least = (2, 55) if by_kubernetes else (2, 52)
    if not _at_least(spec.get("rayVersion"), least):
        yield Refusal("auth-version", f"authOptions.mode token needs rayVersion {least[0]}.{least[1]}.0 or later.")
    if by_kubernetes and options.get("secretName"):
        yield Refusal("auth-secret", "authOptions.enableK8sTokenAuth and authOptions.secretName are both there.")


def _job(job: dict[str, Any]) -> Iterator[Refusal]:
    yield from of_name("RayJob", job["metadata"]["name"])
    spec = job["spec"]
    selector, own = spec.get("clusterSelector") or {}, spec.get("rayClusterSpec")
    if spec.get("suspend") and not spec.get("shutdownAfterJobFinishes"):
        yield Refusal("job-suspend", "a RayJob that does not shut its cluster down cannot be suspended.")
    if spec.get("suspend") and selector:
        yield Refusal("job-suspend", "a RayJob with a clusterSelector cannot be suspended.")
    if own is None and not selector:
        yield Refusal("job-cluster", "a RayJob needs rayClusterSpec or clusterSelector.")
    if selector and not selector.get("ray.io/cluster"):
        yield Refusal("job-selector", "clusterSelector must name a cluster: ray.io/cluster.")
    if selector and spec.get("submissionMode") == "SidecarMode":
        yield Refusal("job-sidecar", "submissionMode SidecarMode does not go with clusterSelector.")
    if spec.get("backoffLimit", 0) > 0 and selector:
        yield Refusal("job-backoff", "backoffLimit does not go with clusterSelector.")
    if spec.get("backoffLimit", 0) > 0 and spec.get("submissionMode") == "InteractiveMode":
        yield Refusal("job-backoff", "backoffLimit does not go with submissionMode InteractiveMode.")
    if spec.get("backoffLimit", 0) < 0 or spec.get("ttlSecondsAfterFinished", 0) < 0:
        yield Refusal("job-sign", "backoffLimit and ttlSecondsAfterFinished are 0 or more.")
    for field in ("activeDeadlineSeconds", "preRunningDeadlineSeconds"):
        if spec.get(field, 1) <= 0:
            yield Refusal("job-deadline", f"{field} must be above 0.")
    if spec.get("ttlSecondsAfterFinished", 0) > 0 and not spec.get("shutdownAfterJobFinishes"):
        yield Refusal("job-ttl", "ttlSecondsAfterFinished needs shutdownAfterJobFinishes.")
    if own is not None:
        yield from cluster_spec(own, job["metadata"].get("annotations", {}))


def _containers(group: dict[str, Any]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = group["template"]["spec"].get("containers", [])
    return found


def _env(group: dict[str, Any]) -> dict[str, Any]:
    return {each["name"]: each.get("value") for each in _containers(group)[0].get("env", [])}


def _autoscaling(spec: dict[str, Any]) -> bool:
    return bool(spec.get("enableInTreeAutoscaling"))


def _autoscaler_v2(spec: dict[str, Any]) -> bool:
    if (spec.get("autoscalerOptions") or {}).get("version") == "v2":
        return True
    return _env(spec["headGroupSpec"]).get(_V2) in ("1", "true")


def _at_least(version: str | None, least: tuple[int, int]) -> bool:
    match = _VERSION.fullmatch(version or "")
    return match is not None and (int(match[1]), int(match[2])) >= least
