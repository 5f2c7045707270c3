"""What is wrong with manifests that are right one by one: what they name is not there, or does not fit."""

import json
import shlex
from collections.abc import Iterator

from kube_network import network_faults
from kube_placement import cluster_yaml, placement_faults
from kube_pods import HEAD_GROUP, KUBERAY_LABELS, Object, Pods, all_pods, of_kind, selects

from chiasm.kubernetes.names import GATEWAY, HUB_SECRET
from chiasm.kubernetes.pods import END_DRIVER, ENDING_S, GPU, LEAVE, STOP_S
from chiasm.kubernetes.secrets import new_secrets
from chiasm.kubernetes.settings import in_bytes

LOSSES_OF_THE_HEAD = 100  # in the life of a cluster


def faults(objects: list[Object]) -> list[str]:
    """Everything that is wrong, in words."""
    checks = (
        _services,
        _budgets,
        _templates,
        _references,
        placement_faults,
        _launcher,
        _monitors,
        _namespaces,
        network_faults,
    )
    return [fault for check in checks for fault in check(objects)]


def _hit(objects: list[Object], selector: Object) -> list[Pods]:
    return [pods for pods in all_pods(objects) if selects(selector, pods.labels)]


def _services(objects: list[Object]) -> Iterator[str]:
    for service in of_kind(objects, "Service"):
        name = f"Service {service['metadata']['name']}"
        pods = _hit(objects, {"matchLabels": service["spec"]["selector"]})
        if not pods:
            yield f"{name} selects no pod"
        for port in service["spec"]["ports"]:
            for each in pods:
                if not each.has_port(port["targetPort"]):
                    yield f"{name} sends to port {port['targetPort']}, which {each.owner} does not have"


def _budgets(objects: list[Object]) -> Iterator[str]:
    for budget in of_kind(objects, "PodDisruptionBudget"):
        name, spec = f"PodDisruptionBudget {budget['metadata']['name']}", budget["spec"]
        pods = _hit(objects, spec["selector"])
        if not pods:
            yield f"{name} selects no pod"
        if not isinstance(spec.get("minAvailable"), int):
            yield f"{name} needs minAvailable, as a whole number: its pods' owner has no scale"
        elif spec["minAvailable"] > sum(each.count for each in pods):
            yield f"{name} wants more pods than there are"


def _templates(objects: list[Object]) -> Iterator[str]:
    for pods in all_pods(objects):
        spec = pods.spec
        if spec["securityContext"].get("runAsNonRoot") is not True or not spec["securityContext"].get("runAsUser"):
            yield f"{pods.owner} may run as root"
        if spec.get("automountServiceAccountToken") is not False:
            yield f"{pods.owner} gets a token of the API server"
        for container in spec["containers"]:
            if not container["securityContext"].get("readOnlyRootFilesystem"):
                yield f"{pods.owner} can write to its root file system"
            resources = container["resources"]
            if resources["requests"] != resources["limits"]:
                yield f"{pods.owner}: requests are not limits"
        declared = {volume["name"] for volume in spec.get("volumes", [])}
        declared |= {"data"} if pods.owner.startswith("StatefulSet") else set()
        for mount in pods.container["volumeMounts"]:
            if mount["name"] not in declared:
                yield f"{pods.owner} mounts {mount['name']}, which is no volume of it"
        for spread in spec.get("topologySpreadConstraints", []):
            if not selects(spread["labelSelector"], pods.labels):
                yield f"{pods.owner} is spread over others than itself"
        if pods.ray_group is not None:
            yield from _ray_template(pods)
            if (group := pods.ray_group["groupName"]) != HEAD_GROUP:
                yield from _ending(pods, group, cluster_yaml(objects).gateway.drain_s)


def _ray_template(pods: Pods) -> Iterator[str]:
    labels = {**pods.template["metadata"]["labels"], **pods.ray_group.get("labels", {})}  # type: ignore[union-attr]
    if taken := [key for key in labels if key in KUBERAY_LABELS or key.startswith("ray.io/")]:
        yield f"{pods.owner} has the label {taken[0]}, by which KubeRay finds pods"
    if "readinessProbe" in pods.container:
        yield f"{pods.owner}: its own readiness keeps the cluster from being ready, for which the launcher waits"
    limits = pods.container["resources"]["limits"]
    shared = next(each["emptyDir"] for each in pods.spec["volumes"] if each["name"] == "shm")
    if shared.get("medium") != "Memory":
        yield f"{pods.owner}: /dev/shm is not in memory"
    elif int(shared["sizeLimit"].removesuffix("Mi")) << 20 >= in_bytes(limits["memory"]):
        yield f"{pods.owner}: /dev/shm may take all of its memory"
    if GPU in limits:
        if not any(each["key"] == GPU for each in pods.spec.get("tolerations", [])):
            yield f"{pods.owner} does not tolerate the taint of nodes with GPUs"
        if not pods.spec.get("nodeSelector"):
            yield f"{pods.owner} may land on any card"


def _ending(pods: Pods, group: str, drain_s: float) -> Iterator[str]:
    """A pod is taken away whatever is being answered there, unless it says something against it first."""
    wanted, more_s = (END_DRIVER, STOP_S) if group == GATEWAY else (LEAVE, ENDING_S)
    hook = pods.container.get("lifecycle", {}).get("preStop", {}).get("exec", {}).get("command")
    if hook != wanted:
        yield f"{pods.owner} does not drain before it ends"
    if pods.spec.get("terminationGracePeriodSeconds", 30) < drain_s + more_s:
        yield f"{pods.owner} is killed before it has drained"
    env = {each["name"]: each.get("value") for each in pods.container["env"]}
    if group != GATEWAY and env.get("RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S") != "0":
        yield f"{pods.owner}: Ray waits for its node to be idle, which it never is"


def _references(objects: list[Object]) -> Iterator[str]:
    accounts = {each["metadata"]["name"] for each in of_kind(objects, "ServiceAccount")} | {"default"}
    maps = {each["metadata"]["name"] for each in of_kind(objects, "ConfigMap")}
    secrets = {each["metadata"]["name"] for each in new_secrets("any")}  # type: ignore[index]
    for pods in all_pods(objects):
        if pods.spec.get("serviceAccountName", "default") not in accounts:
            yield f"{pods.owner}: there is no ServiceAccount {pods.spec['serviceAccountName']}"
        for volume in pods.spec.get("volumes", []):
            if "configMap" in volume and volume["configMap"]["name"] not in maps:
                yield f"{pods.owner}: there is no ConfigMap {volume['configMap']['name']}"
            if "secret" in volume and volume["secret"]["secretName"] not in secrets:
                yield f"{pods.owner}: nobody makes the Secret {volume['secret']['secretName']}"
        for env in pods.container.get("env", []):
            wanted = env.get("valueFrom", {}).get("secretKeyRef")
            if wanted and wanted["name"] not in {*secrets, HUB_SECRET}:
                yield f"{pods.owner}: nobody makes the Secret {wanted['name']}"
    for cluster in of_kind(objects, "RayCluster"):
        address = cluster["spec"]["gcsFaultToleranceOptions"]["redisAddress"]
        host, _, port = address.removeprefix("redis://").partition(":")
        services = {each["metadata"]["name"]: each["spec"]["ports"] for each in of_kind(objects, "Service")}
        if not any(str(each["port"]) == port for each in services.get(host, [])):
            yield f"RayCluster {cluster['metadata']['name']}: there is no Redis at {address}"


def _launcher(objects: list[Object]) -> Iterator[str]:
    clusters = {each["metadata"]["name"] for each in of_kind(objects, "RayCluster")}
    for job in of_kind(objects, "RayJob"):
        name, spec = f"RayJob {job['metadata']['name']}", job["spec"]
        if spec["clusterSelector"]["ray.io/cluster"] not in clusters:
            yield f"{name}: there is no RayCluster {spec['clusterSelector']['ray.io/cluster']}"
        wanted = json.loads(spec["entrypointResources"])
        homes = [
            pods
            for pods in all_pods(objects)
            if pods.ray_group is not None
            and all(float(pods.ray_group.get("resources", {}).get(key, 0)) >= each for key, each in wanted.items())
        ]
        if not homes:
            yield f"{name}: no pod has {spec['entrypointResources']}, which its driver takes"
        if spec.get("submitterConfig", {}).get("backoffLimit", 2) < LOSSES_OF_THE_HEAD:
            yield f"{name}: KubeRay gives it up after a few losses of the head, though its driver serves on"
        words = shlex.split(spec["entrypoint"])
        for option in ("--config", "--keys"):
            path = words[words.index(option) + 1]
            for pods in homes:
                folders = {mount["mountPath"] for mount in pods.container["volumeMounts"]}
                if path.rpartition("/")[0] not in folders:
                    yield f"{name}: {path} is not on {pods.owner}"


def _monitors(objects: list[Object]) -> Iterator[str]:
    for monitor in of_kind(objects, "PodMonitor"):
        name = f"PodMonitor {monitor['metadata']['name']}"
        pods = _hit(objects, monitor["spec"]["selector"])
        if not pods:
            yield f"{name} selects no pod"
        for endpoint in monitor["spec"]["podMetricsEndpoints"]:
            for each in pods:
                if not each.has_port(endpoint["port"]):
                    yield f"{name} scrapes port {endpoint['port']}, which {each.owner} does not have"


def _namespaces(objects: list[Object]) -> Iterator[str]:
    """All is in one namespace, which is none of the objects: to delete them must not delete all else that is in it."""
    if of_kind(objects, "Namespace"):
        yield "the namespace would be deleted with them, and all that is in it"
    [cluster] = of_kind(objects, "RayCluster")
    namespace = cluster["metadata"].get("namespace")
    for thing in objects:
        if thing["metadata"].get("namespace") != namespace:
            yield f"{thing['kind']} {thing['metadata']['name']} is not in the namespace {namespace}"
