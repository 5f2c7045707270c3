"""Who may speak to whom: nobody, but for what is written here. From outside only the gateway can be reached."""

from chiasm.kubernetes.names import (
    DASHBOARD_PORT,
    EMBEDDINGS_PORT,
    ENGINE_PORTS,
    GATEWAY,
    GCS_PORT,
    HTTP_PORT,
    PART_OF,
    RAY_PORTS,
    RAY_WORKER_PORTS,
    SCHEDULER_PORT,
    Object,
    metadata,
    pod_labels,
)

WORKERS = ("encoder", "decoder", "whole")

_OPERATOR = {"app.kubernetes.io/component": "kuberay-operator"}


def policies() -> list[Object]:
    """All NetworkPolicies. They select by labels that every cluster's pods have, whatever it is called."""
    engines = _port(*ENGINE_PORTS)
    dashboard = [_port(DASHBOARD_PORT)]
    # KubeRay asks the dashboard how the launcher's job does, and the launcher's own pod submits it there.
    operator: Object = {"namespaceSelector": {}, "podSelector": {"matchLabels": _OPERATOR}}
    submitter = _pods(pod_labels("launcher"))
    return [
        _policy("deny", {"matchLabels": PART_OF}, []),
        _policy("ray", _in_a_cluster()["podSelector"], [_rule([_in_a_cluster()], _ray_ports())]),
        _policy(
            "head",
            _nodes("head"),
            [
                _rule([_in_a_cluster()], [_port(GCS_PORT), *dashboard]),
                _rule([submitter, operator], dashboard),
            ],
        ),
        _policy(
            "gateway",
            _groups(GATEWAY),
            [_rule(None, [_port(HTTP_PORT)]), _rule([_peer(*WORKERS)], [_port(SCHEDULER_PORT)])],
        ),
        _policy("engines", _groups(*WORKERS), [_rule([_peer(GATEWAY)], [engines])]),
        _policy("embeddings", _groups("encoder"), [_rule([_peer("decoder")], [_port(EMBEDDINGS_PORT)])]),
        _policy(
            "redis",
            {"matchLabels": pod_labels("redis")},
            [
                _rule(
                    [
                        {"podSelector": _nodes("head")},
                        {"podSelector": _nodes("redis-cleanup")},  # KubeRay makes it of the head, whose cluster goes
                    ],
                    [_port(6379)],
                )
            ],
        ),
    ]


def _policy(name: str, selector: object, ingress: list[Object]) -> Object:
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": metadata(f"chiasm-{name}", "network"),
        "spec": {"podSelector": selector, "policyTypes": ["Ingress"], "ingress": ingress},
    }


def _rule(peers: list[Object] | None, ports: list[Object]) -> Object:
    return {"ports": ports} if peers is None else {"from": peers, "ports": ports}


def _port(first: int, last: int | None = None) -> Object:
    return {"protocol": "TCP", "port": first, **({} if last is None else {"endPort": last})}


def _ray_ports() -> list[Object]:
    return [*(_port(port) for port in RAY_PORTS.values()), _port(*RAY_WORKER_PORTS)]


def _pods(labels: dict[str, str]) -> Object:
    return {"podSelector": {"matchLabels": labels}}


def _in_a_cluster() -> Object:
    exists = {"key": "ray.io/cluster", "operator": "Exists"}
    return {"podSelector": {"matchLabels": PART_OF, "matchExpressions": [exists]}}


def _nodes(kind: str) -> Object:
    """Those of our clusters: others in the namespace have heads as well."""
    return {"matchLabels": {**PART_OF, "ray.io/node-type": kind}}


def _groups(*names: str) -> Object:
    group = {"key": "ray.io/group", "operator": "In", "values": list(names)}
    return {"matchLabels": PART_OF, "matchExpressions": [group]}


def _peer(*groups: str) -> Object:
    return {"podSelector": _groups(*groups)}
