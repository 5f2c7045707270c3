"""The pods that a set of manifests would bring about, as KubeRay and Kubernetes make them."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

Object = dict[str, Any]

KUBERAY_LABELS = ("app.kubernetes.io/name", "app.kubernetes.io/created-by")
HEAD_GROUP = "headgroup"


@dataclass(frozen=True)
class Pods:
    """Equal pods of one owner."""

    owner: str
    labels: dict[str, str]
    template: Object
    count: int
    ray_group: Object | None = None  # of a RayCluster
    namespace: str = ""  # if it is another one than that of the manifests

    @property
    def spec(self) -> Object:
        found: Object = self.template["spec"]
        return found

    @property
    def container(self) -> Object:
        found: Object = self.spec["containers"][0]
        return found

    def has_port(self, port: str | int) -> bool:
        """Whether a container declares it, by name or number."""
        ports = [each for container in self.spec["containers"] for each in container.get("ports", [])]
        return any(port in (each.get("name"), each["containerPort"]) for each in ports)


def of_kind(objects: list[Object], kind: str) -> list[Object]:
    return [each for each in objects if each["kind"] == kind]


def all_pods(objects: list[Object]) -> list[Pods]:
    return [pods for thing in objects for pods in _pods(thing)]


def _pods(thing: Object) -> Iterator[Pods]:
    name = f"{thing['kind']} {thing['metadata']['name']}"
    spec = thing.get("spec", {})
    if thing["kind"] == "StatefulSet":
        template = spec["template"]
        yield Pods(name, template["metadata"]["labels"], template, spec["replicas"])
    elif thing["kind"] == "RayJob":
        template = spec["submitterPodTemplate"]
        yield Pods(name, template["metadata"]["labels"], template, 1)
    elif thing["kind"] == "RayCluster":
        groups = [{"groupName": HEAD_GROUP, "replicas": 1, **spec["headGroupSpec"]}, *spec["workerGroupSpecs"]]
        for group in groups:
            labels = _ray_labels(thing["metadata"]["name"], group)
            yield Pods(f"{name}, group {group['groupName']}", labels, group["template"], group["replicas"], group)


def _ray_labels(cluster: str, group: Object) -> dict[str, str]:
    """As KubeRay v1.7.0 labels pods: its own first, those of template and group over them, but for three."""
    head = group["groupName"] == HEAD_GROUP
    fixed = {
        "ray.io/cluster": cluster,
        "ray.io/group": group["groupName"],
        "ray.io/node-type": "head" if head else "worker",
    }
    own = {KUBERAY_LABELS[0]: "kuberay", KUBERAY_LABELS[1]: "kuberay-operator"}
    template = group["template"].get("metadata", {}).get("labels", {})
    return {**own, **template, **group.get("labels", {}), **fixed}


def selects(selector: Object, labels: dict[str, str]) -> bool:
    """Whether a label selector of Kubernetes takes these labels."""
    for key, value in selector.get("matchLabels", {}).items():
        if labels.get(key) != value:
            return False
    for each in selector.get("matchExpressions", []):
        there, value = each["key"] in labels, labels.get(each["key"])
        right = {
            "Exists": there,
            "DoesNotExist": not there,
            "In": value in each.get("values", []),
            "NotIn": value not in each.get("values", []),
        }[each["operator"]]
        if not right:
            return False
    return True
