"""Which pod could reach which port, as NetworkPolicies have it."""

from collections.abc import Iterator
from dataclasses import replace

from kube_placement import homes, ray_pods
from kube_pods import HEAD_GROUP, Object, Pods, all_pods, of_kind, selects

from chiasm.kubernetes.names import DASHBOARD_PORT, EMBEDDINGS_PORT, GCS_PORT, HTTP_PORT, RAY_PORTS, SCHEDULER_PORT

REDIS_PORT = 6379
AN_ENGINE = 40_000  # a free port, as Linux gives them

STRANGER = Pods(
    "the head of another Ray cluster",
    {"ray.io/cluster": "other", "ray.io/group": HEAD_GROUP, "ray.io/node-type": "head"},
    template={},
    count=1,
)

OPERATOR = Pods(  # as KubeRay's chart makes them: helm-chart/kuberay-operator/templates/deployment.yaml
    "KubeRay's operator",
    {"app.kubernetes.io/name": "kuberay-operator", "app.kubernetes.io/component": "kuberay-operator"},
    template={},
    count=1,
    namespace="kuberay-system",
)


def reaches(policies: list[Object], source: Pods | None, target: Pods, port: int) -> bool:
    """Whether a connection is let through; no source is one outside of the namespace."""
    over = [each["spec"] for each in policies if selects(each["spec"]["podSelector"], target.labels)]
    if not over:
        return True
    return any(
        _takes_port(rule, port) and _takes_source(rule, source) for spec in over for rule in spec.get("ingress", [])
    )


def _takes_port(rule: Object, port: int) -> bool:
    ports = rule.get("ports")
    return ports is None or any(each["port"] <= port <= each.get("endPort", each["port"]) for each in ports)


def _takes_source(rule: Object, source: Pods | None) -> bool:
    if "from" not in rule:
        return True
    if source is None:
        return any("podSelector" not in peer for peer in rule["from"])
    return any(_takes_pods(peer, source) for peer in rule["from"])


def _takes_pods(peer: Object, source: Pods) -> bool:
    """A peer that says nothing of namespaces is of the policy's own."""
    if "namespaceSelector" in peer:
        near = selects(peer["namespaceSelector"], {"kubernetes.io/metadata.name": source.namespace})
    else:
        near = not source.namespace
    return near and selects(peer.get("podSelector", {}), source.labels)


def network_faults(objects: list[Object]) -> Iterator[str]:
    """Whoever may speak to whom and should not, or should and may not."""
    policies = of_kind(objects, "NetworkPolicy")
    pods = all_pods(objects)
    ray = ray_pods(objects)
    encoding, decoding = homes(objects, "encoders"), homes(objects, "decoders")
    redis = next(each for each in pods if each.owner.startswith("StatefulSet"))
    for target in pods:
        ports = [each["containerPort"] for each in target.container.get("ports", [])]
        for port in {*ports, *RAY_PORTS.values(), EMBEDDINGS_PORT, AN_ENGINE}:
            wanted = target == ray["gateway"] and port == HTTP_PORT
            if reaches(policies, None, target, port) != wanted:
                yield f"from outside, port {port} of {target.owner} can{'not' if wanted else ''} be reached"
    for name, target in ray.items():
        for other, source in ray.items():
            allowed = [(port, True) for port in RAY_PORTS.values()]
            allowed.append((EMBEDDINGS_PORT, name in encoding and other in decoding))
            allowed.append((AN_ENGINE, other == "gateway" and name in ("encoder", "decoder", "whole")))
            allowed.append((SCHEDULER_PORT, name == "gateway" and other in ("encoder", "decoder", "whole")))
            allowed += [(port, name == "headgroup") for port in (GCS_PORT, DASHBOARD_PORT)]
            for port, wanted in allowed:
                if reaches(policies, source, target, port) != wanted:
                    yield f"group {other} can{'not' if wanted else ''} reach port {port} of group {name}"
    for group in decoding:
        foreign = replace(ray[group], labels={**ray[group].labels, "ray.io/cluster": "other"})
        if any(reaches(policies, foreign, ray[name], EMBEDDINGS_PORT) for name in encoding):
            yield f"group {group} of another cluster can reach embeddings"
    for other, source in ray.items():
        if reaches(policies, source, redis, REDIS_PORT) != (other == "headgroup"):
            yield f"group {other} can{'not' if other == 'headgroup' else ''} reach Redis"
    launcher = next(each for each in pods if each.owner.startswith("RayJob"))
    if not reaches(policies, launcher, ray["headgroup"], DASHBOARD_PORT):
        yield "the launcher cannot reach the dashboard to submit its job"
    if not reaches(policies, OPERATOR, ray[HEAD_GROUP], DASHBOARD_PORT):
        yield f"{OPERATOR.owner} cannot reach the dashboard to ask how the launcher's job does"
    yield from _across_namespaces(policies, ray)
    # KubeRay makes it of the head's template, and changes this label.
    cleanup = replace(ray[HEAD_GROUP], labels={**ray[HEAD_GROUP].labels, "ray.io/node-type": "redis-cleanup"})
    if not reaches(policies, cleanup, redis, REDIS_PORT):
        yield "KubeRay's clean-up cannot reach Redis"
    if reaches(policies, STRANGER, redis, REDIS_PORT):
        yield f"{STRANGER.owner} can reach Redis"
    if any(selects(each["spec"]["podSelector"], STRANGER.labels) for each in policies):
        yield f"{STRANGER.owner} is under a policy of ours"


def _across_namespaces(policies: list[Object], ray: dict[str, Pods]) -> Iterator[str]:
    """Pods of a cluster in another namespace have the same labels."""
    ports = (*RAY_PORTS.values(), EMBEDDINGS_PORT, AN_ENGINE, SCHEDULER_PORT, GCS_PORT, DASHBOARD_PORT)
    for other, source in ray.items():
        foreign = replace(source, namespace="other")
        for name, target in ray.items():
            for port in ports:
                if reaches(policies, foreign, target, port):
                    yield f"group {other} of another namespace can reach port {port} of group {name}"
