"""Who may speak to whom: nobody, but for what is written here. From outside only the gateway can be reached."""

from chiasm.config import ClusterConfig
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
from chiasm.kubernetes.placement import homes

WORKERS = ("encoder", "decoder", "whole")

_OPERATOR = {"app.kubernetes.io/component": "kuberay-operator"}


def policies() -> list[Object]:
    """NetworkPolicies of all clusters. They select by labels that every cluster's pods have, whatever it is called."""
    engines = _port(*ENGINE_PORTS)
    dashboard = [_port(DASHBOARD_PORT)]
    # KubeRay asks the dashboard how the launcher's job does, and the launcher's own pod submits it there.
    operator: Object = {"namespaceSelector": {}, "podSelector": {"matchLabels": _OPERATOR}}
    submitter = _pods(pod_labels("launcher"))
    return [
        _policy("chiasm-deny", {"matchLabels": PART_OF}, []),
        _policy("chiasm-ray", _in_a_cluster()["podSelector"], [_rule([_in_a_cluster()], _ray_ports())]),
        _policy(
            "chiasm-head",
            _nodes("head"),
            [
                _rule([_in_a_cluster()], [_port(GCS_PORT), *dashboard]),
                _rule([submitter, operator], dashboard),
            ],
        ),
        _policy(
            "chiasm-gateway",
            _groups(GATEWAY),
            [_rule(None, [_port(HTTP_PORT)]), _rule([_peer(*WORKERS)], [_port(SCHEDULER_PORT)])],
        ),
        _policy("chiasm-engines", _groups(*WORKERS), [_rule([_peer(GATEWAY)], [engines])]),
        _policy(
            "chiasm-redis",
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


def embeddings(config: ClusterConfig) -> Object:
    """The NetworkPolicy of one cluster by which its decoders fetch from its encoders, on whichever pods they may be."""
    cluster = config.kubernetes.name
    encoders, decoders = homes(config, "encoders", config.encoders), homes(config, "decoders", config.decoders)
    return _policy(
        f"{cluster}-embeddings",
        _groups(*encoders, cluster=cluster),
        [_rule([_peer(*decoders, cluster=cluster)], [_port(EMBEDDINGS_PORT)])],
    )


def _policy(name: str, selector: object, ingress: list[Object]) -> Object:
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": metadata(name, "network"),
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


def _groups(*names: str, cluster: str | None = None) -> Object:
    """Those of worker groups: of one cluster's, or of every cluster's."""
    of_it = {} if cluster is None else {"ray.io/cluster": cluster}
    group = {"key": "ray.io/group", "operator": "In", "values": list(names)}
    return {"matchLabels": {**PART_OF, **of_it}, "matchExpressions": [group]}


def _peer(*groups: str, cluster: str | None = None) -> Object:
    return {"podSelector": _groups(*groups, cluster=cluster)}
