"""Manifests that are wrong in one place each, and what is said of them."""

from collections.abc import Callable
from typing import Any

import pytest
from kube_pods import of_kind
from kube_schemas import refused
from kube_semantics import faults
from kube_tools import objects_of

from chiasm.kubernetes.rules import refusals

Object = dict[str, Any]
Objects = list[Object]


def the(objects: Objects, kind: str, name: str | None = None) -> Any:
    return next(each for each in of_kind(objects, kind) if name in (None, each["metadata"]["name"]))


def spec(objects: Objects) -> Any:
    return the(objects, "RayCluster")["spec"]


def group(objects: Objects, name: str) -> Any:
    return next(each for each in spec(objects)["workerGroupSpecs"] if each["groupName"] == name)


def container(objects: Objects, name: str) -> Any:
    return group(objects, name)["template"]["spec"]["containers"][0]


def head(objects: Objects) -> Any:
    return spec(objects)["headGroupSpec"]["template"]["spec"]["containers"][0]


def policy(objects: Objects, name: str) -> Any:
    return the(objects, "NetworkPolicy", f"chiasm-{name}")["spec"]


def redis_peers(objects: Objects) -> Any:
    return policy(objects, "redis")["ingress"][0]["from"]


def autoscaled(objects: Objects, **options: Any) -> Any:
    spec(objects).update(enableInTreeAutoscaling=True, autoscalerOptions={"version": "v2", **options})
    return spec(objects)


def without(mapping: Object, key: str) -> None:
    del mapping[key]


BROKEN: dict[str, tuple[Callable[[Objects], Any], str]] = {
    # What Kubernetes' and KubeRay's schemas refuse.
    "a field that RayCluster has not": (
        lambda o: spec(o).update(workerGroups=[]),
        "'workerGroups' was unexpected",
    ),
    "a group without a name": (
        lambda o: without(group(o, "encoder"), "groupName"),
        "'groupName' is a required property",
    ),
    "replicas as a text": (lambda o: group(o, "decoder").update(replicas="4"), "'4' is not of type 'integer'"),
    "a field that Service has not": (
        lambda o: the(o, "Service", "chiasm")["spec"].update(selectors={}),
        "'selectors' was unexpected",
    ),
    "managed by nobody": (
        lambda o: spec(o).update(managedBy="us"),
        "the managedBy field value must be either",
    ),
    "a deletion strategy of both kinds": (
        lambda o: the(o, "RayJob")["spec"].update(deletionStrategy={"onSuccess": {"policy": "DeleteNone"}}),
        "deletionStrategy requires either BOTH onSuccess and onFailure",
    ),
    # What KubeRay's controller refuses.
    "a cluster's name too long": (
        lambda o: the(o, "RayCluster")["metadata"].update(name="c" * 54),
        "KubeRay's rule name-length: RayCluster " + "c" * 54 + " has 54 characters",
    ),
    "resources twice": (
        lambda o: group(o, "encoder")["rayStartParams"].update({"num-gpus": "1"}),
        "KubeRay's rule resources-once: group encoder has resources and rayStartParams.num-gpus",
    ),
    "labels among Ray's parameters": (
        lambda o: group(o, "encoder")["rayStartParams"].update(labels="a=b"),
        "KubeRay's rule labels-field: group encoder",
    ),
    "a label that is none": (
        lambda o: group(o, "encoder")["labels"].update({"chiasm pool": "encoder"}),
        'KubeRay\'s rule label-key: group encoder has the label "chiasm pool"',
    ),
    "least above most": (
        lambda o: group(o, "encoder").update(minReplicas=9),
        "KubeRay's rule replica-order: worker group encoder has minReplicas 9 above maxReplicas 8",
    ),
    "no bounds": (
        lambda o: without(group(o, "decoder"), "maxReplicas"),
        "KubeRay's rule replica-bounds: worker group decoder",
    ),
    "Redis' password twice": (
        lambda o: head(o)["env"].append({"name": "REDIS_PASSWORD", "value": "x"}),
        "KubeRay's rule redis-password",
    ),
    "Redis without fault tolerance": (
        lambda o: (
            without(spec(o), "gcsFaultToleranceOptions"),
            head(o)["env"].append({"name": "RAY_REDIS_ADDRESS", "value": "redis:6379"}),
        ),
        "KubeRay's rule redis-implied",
    ),
    "pods that restart under autoscaler v2": (
        lambda o: (
            autoscaled(o),
            group(o, "encoder")["template"]["spec"].update(restartPolicy="Always"),
        ),
        "KubeRay's rule restart-policy: restartPolicy of worker group encoder",
    ),
    "an idle time-out without autoscaler v2": (
        lambda o: group(o, "encoder").update(idleTimeoutSeconds=60),
        "KubeRay's rule idle-timeout: worker group encoder",
    ),
    "a token without Ray's version": (lambda o: without(spec(o), "rayVersion"), "KubeRay's rule auth-version"),
    "a launcher that is repeated": (
        lambda o: the(o, "RayJob")["spec"].update(backoffLimit=3),
        "KubeRay's rule job-backoff: backoffLimit does not go with clusterSelector",
    ),
    # What nobody refuses, and does not work.
    "a Service of nobody": (
        lambda o: the(o, "Service", "chiasm")["spec"]["selector"].update({"ray.io/group": "gatway"}),
        "Service chiasm selects no pod",
    ),
    "a Service's port that no pod has": (
        lambda o: the(o, "Service", "chiasm")["spec"]["ports"][0].update(targetPort="https"),
        "Service chiasm sends to port https, which RayCluster chiasm, group gateway does not have",
    ),
    "workers that find no node": (
        lambda o: group(o, "encoder").update(labels={"chiasm-pool": "encoders"}),
        "encoders: of 8 workers only 0 have a pod with their labels, resources and GPUs",
    ),
    "pods without cards": (
        lambda o: [without(each, "nvidia.com/gpu") for each in container(o, "decoder")["resources"].values()],
        "decoders: of 4 workers only 0 have a pod",
    ),
    "fewer pods than workers": (
        lambda o: group(o, "decoder").update(replicas=3),
        "decoders: of 4 workers only 3 have a pod",
    ),
    "any card": (
        lambda o: without(group(o, "encoder")["template"]["spec"], "nodeSelector"),
        "group encoder may land on any card",
    ),
    "no toleration": (
        lambda o: without(group(o, "encoder")["template"]["spec"], "tolerations"),
        "group encoder does not tolerate the taint",
    ),
    "a budget of what may be missing": (
        lambda o: the(o, "PodDisruptionBudget", "chiasm-encoder").update(
            spec={
                "maxUnavailable": 1,
                "selector": {"matchLabels": {"ray.io/cluster": "chiasm", "ray.io/group": "encoder"}},
            }
        ),
        "PodDisruptionBudget chiasm-encoder needs minAvailable",
    ),
    "embeddings for everybody in the cluster": (
        lambda o: policy(o, "ray")["ingress"][0].update(ports=[]) or policy(o, "ray")["ingress"][0].pop("ports"),
        "group gateway can reach port 7600 of group encoder",
    ),
    "embeddings for nobody": (
        lambda o: policy(o, "embeddings").update(ingress=[]),
        "group decoder cannot reach port 7600 of group encoder",
    ),
    "embeddings for decoders of others": (
        lambda o: without(
            policy(o, "embeddings")["ingress"][0]["from"][0]["podSelector"]["matchLabels"], "ray.io/cluster"
        ),
        "group decoder of another cluster can reach embeddings",
    ),
    "a dashboard for the world": (
        lambda o: policy(o, "head")["ingress"].append({"ports": [{"port": 8265, "protocol": "TCP"}]}),
        "from outside, port 8265 of RayCluster chiasm, group headgroup can be reached",
    ),
    "a dashboard that KubeRay cannot ask": (
        lambda o: policy(o, "head")["ingress"][1]["from"].pop(1),
        "KubeRay's operator cannot reach the dashboard",
    ),
    "a dashboard for a KubeRay of the same namespace": (
        lambda o: without(policy(o, "head")["ingress"][1]["from"][1], "namespaceSelector"),
        "KubeRay's operator cannot reach the dashboard",
    ),
    "engines for gateways of every namespace": (
        lambda o: policy(o, "engines")["ingress"][0]["from"][0].update(namespaceSelector={}),
        "group gateway of another namespace can reach port 40000 of group encoder",
    ),
    "a policy for the heads of others": (
        lambda o: without(policy(o, "head")["podSelector"]["matchLabels"], "app.kubernetes.io/part-of"),
        "the head of another Ray cluster is under a policy of ours",
    ),
    "a Redis for the heads of others": (
        lambda o: without(redis_peers(o)[0]["podSelector"]["matchLabels"], "app.kubernetes.io/part-of"),
        "the head of another Ray cluster can reach Redis",
    ),
    "a Redis that nobody may clean up": (
        lambda o: redis_peers(o).pop(1),
        "KubeRay's clean-up cannot reach Redis",
    ),
    "a gateway that waits for itself": (
        lambda o: container(o, "gateway").update(readinessProbe={"httpGet": {"path": "/ready", "port": 8000}}),
        "its own readiness keeps the cluster from being ready",
    ),
    "a launcher of another cluster": (
        lambda o: the(o, "RayJob")["spec"].update(clusterSelector={"ray.io/cluster": "other"}),
        "RayJob chiasm-launcher: there is no RayCluster other",
    ),
    "a launcher that is given up": (
        lambda o: without(the(o, "RayJob")["spec"], "submitterConfig"),
        "RayJob chiasm-launcher: KubeRay gives it up after a few losses of the head",
    ),
    "a driver without a home": (
        lambda o: the(o, "RayJob")["spec"].update(entrypointResources='{"gateway": 1}'),
        'no pod has {"gateway": 1}, which its driver takes',
    ),
    "a configuration that is not mounted": (
        lambda o: container(o, "gateway")["volumeMounts"].pop(-2),
        "/etc/chiasm/cluster.yaml is not on RayCluster chiasm, group gateway",
    ),
    "requests below limits": (
        lambda o: container(o, "decoder")["resources"].update(requests={"cpu": "1"}),
        "group decoder: requests are not limits",
    ),
    "pods that end in mid-answer": (
        lambda o: without(container(o, "decoder"), "lifecycle"),
        "group decoder does not drain before it ends",
    ),
    "a gateway that ends in mid-answer": (
        lambda o: container(o, "gateway").update(lifecycle=container(o, "decoder")["lifecycle"]),
        "group gateway does not drain before it ends",
    ),
    "a gateway that is killed in mid-answer": (
        lambda o: without(group(o, "gateway")["template"]["spec"], "terminationGracePeriodSeconds"),
        "group gateway is killed before it has drained",
    ),
    "pods that are killed in mid-answer": (
        lambda o: without(group(o, "decoder")["template"]["spec"], "terminationGracePeriodSeconds"),
        "group decoder is killed before it has drained",
    ),
    "root": (
        lambda o: group(o, "encoder")["template"]["spec"].update(securityContext={}),
        "group encoder may run as root",
    ),
    "labels that KubeRay finds the head by": (
        lambda o: spec(o)["headGroupSpec"]["template"]["metadata"]["labels"].update({"app.kubernetes.io/name": "x"}),
        "has the label app.kubernetes.io/name, by which KubeRay finds pods",
    ),
    "no Redis": (
        lambda o: spec(o)["gcsFaultToleranceOptions"].update(redisAddress="redis://redis:6379"),
        "there is no Redis at redis://redis:6379",
    ),
    "another namespace": (
        lambda o: the(o, "Service", "chiasm")["metadata"].update(namespace="default"),
        "Service chiasm is not in the namespace chiasm",
    ),
}


def said(objects: Objects, changed: Objects) -> list[str]:
    """Of all checks, the first that has something to say: the others count on what it checks."""
    for thing in changed:
        if found := refused(thing) or list(map(str, refusals(thing))):
            return found
    return faults(objects)


@pytest.mark.parametrize("variant", BROKEN)
def test_a_broken_variant_is_refused_with_its_reason(variant: str) -> None:
    for module in ("kubernetes_validate", "jsonschema", "celpy"):
        pytest.importorskip(module, reason=f"{module} is in the extra `dev`")
    mutate, message = BROKEN[variant]
    whole = objects_of("rtx4090-a100")  # with which nothing is wrong: tests/k8s/test_overlays.py
    objects = objects_of("rtx4090-a100")
    mutate(objects)
    changed = [thing for thing, was in zip(objects, whole, strict=True) if thing != was]
    found = said(objects, changed)
    assert any(message in each for each in found), found
