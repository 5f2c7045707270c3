"""From manifests to Ray nodes on this machine: what KubeRay would start in each pod, and what the launcher's job runs.

As KubeRay v1.7.0 makes `ray start` of a group: ray-operator/controllers/ray/common/pod.go, DefaultWorkerPodTemplate and
generateRayStartCommand.
"""

import json
import shlex
from typing import Any

from kube_pods import HEAD_GROUP, Object, Pods, all_pods, of_kind
from raylets import Raylets

from chiasm.kubernetes.pods import GPU
from chiasm.kubernetes.settings import in_bytes

OF_A_POD_ALONE = {"HOME", "HF_HOME", "RAY_AUTH_MODE"}
"""Variables of the image's folders, and of a token that KubeRay makes."""

FEW_CORES = {"RAY_prestart_worker_first_driver": "0"}
"""Ray starts a worker for each core of the driver's node, which here are cores that only count."""


def start(objects: list[Object], nodes: Raylets) -> dict[str, list[str]]:
    """Start a Ray node for each pod of the Ray cluster, the head first; their names by the group.

    They have the manifest's resources, labels, cards and environment. Left out are the ports, which are those of every
    pod alike, and here all pods are on one machine.
    """
    groups = {pods.ray_group["groupName"]: pods for pods in all_pods(objects) if pods.ray_group is not None}
    assert next(iter(groups)) == HEAD_GROUP
    names = {group: [f"{group}-{index}" for index in range(pods.count)] for group, pods in groups.items()}
    for group, pods in groups.items():
        for name in names[group]:
            nodes.add(name, **_ray_start(pods))
    return names


def _ray_start(pods: Pods) -> dict[str, Any]:
    group: Any = pods.ray_group
    limits = pods.container["resources"]["limits"]
    resources = {name: float(amount) for name, amount in group.get("resources", {}).items()}
    env = {each["name"]: each["value"] for each in pods.container["env"] if "value" in each}
    return {
        "num_cpus": int(resources.pop("CPU", limits["cpu"])),
        "num_gpus": int(limits.get(GPU, 0)),
        "memory": in_bytes(limits["memory"]),
        "object_store_memory": int(group["rayStartParams"]["object-store-memory"]),
        "resources": resources,
        "labels": {**group.get("labels", {}), "ray.io/node-group": group["groupName"]},
        "env": {name: value for name, value in env.items() if name not in OF_A_POD_ALONE} | FEW_CORES,
    }


def launcher(objects: list[Object], names: dict[str, list[str]]) -> tuple[str, list[str]]:
    """The node on which Ray would run the launcher's driver, and the words of its command."""
    [job] = [each["spec"] for each in of_kind(objects, "RayJob")]
    wanted = json.loads(job["entrypointResources"])
    [home] = [
        pods.ray_group["groupName"]
        for pods in all_pods(objects)
        if pods.ray_group is not None and wanted.keys() <= pods.ray_group.get("resources", {}).keys()
    ]
    return names[home][0], shlex.split(job["entrypoint"])
