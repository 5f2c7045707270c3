"""A configuration as files for Kustomize, and how they differ from those that are there.

    base/                      what all clusters of a namespace share: Redis, network policies, the pods' account
    monitoring/                alerts and dashboard
    overlays/NAME/             one cluster: of the `cluster.yaml` beside them
    overlays/NAME/stealing/    a component: what `stealing.yaml` beside `cluster.yaml` changes

The same configuration makes the same bytes.
"""

import difflib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from chiasm.config import ClusterConfig
from chiasm.kubernetes.cluster_file import CannotRender
from chiasm.kubernetes.launcher import launcher
from chiasm.kubernetes.monitoring import dashboard, pod_monitor, prometheus_rule
from chiasm.kubernetes.names import ACCOUNT, Object, metadata
from chiasm.kubernetes.network import embeddings, policies
from chiasm.kubernetes.ray_cluster import ray_cluster
from chiasm.kubernetes.redis import redis
from chiasm.kubernetes.rules import refusals
from chiasm.kubernetes.serving import config_map, disruption_budgets, namespace, service
from chiasm.kubernetes.variants import component

STEALING = "stealing"
NAMESPACE = "namespace"
_HEAD = (
    "# Made by `chiasm render`: change cluster.yaml and make it again, or patch it from a Kustomize overlay of yours.\n"
)

Files = dict[str, str]
"""Texts by their path below the folder that they are for."""


@dataclass(frozen=True)
class Difference:
    """How one file would change; no lines where it would not."""

    path: str
    lines: tuple[str, ...]


def render(config: ClusterConfig, overlay: str, stealing: ClusterConfig | None = None) -> Files:
    """All files of one cluster, what it shares with others included.

    `stealing` is the configuration that the component `stealing` turns `config` into.

    Raises:
        CannotRender: something in it cannot be so on Kubernetes, or KubeRay would refuse it.
    """
    folder = f"overlays/{overlay}"
    parts = _parts(config)
    files = {**_shared(), **{f"{folder}/{name}.yaml": _documents(things) for name, things in parts.items()}}
    resources = ["../../base", *(["../../monitoring"] if config.kubernetes.monitoring else [])]
    # The namespace is not one of them: whoever deletes an overlay must not delete keys, weights and other clusters.
    resources += [f"{name}.yaml" for name in parts if name != NAMESPACE]
    files[f"{folder}/kustomization.yaml"] = _documents([_kustomization(config.kubernetes.namespace, resources)])
    if stealing is not None:
        files[f"{folder}/{STEALING}/kustomization.yaml"] = _component(parts, _parts(stealing))
        files[f"overlays/{overlay}-{STEALING}/kustomization.yaml"] = _documents(
            [{**_kustomization(None, [f"../{overlay}"]), "components": [f"../{overlay}/{STEALING}"]}]
        )
    return dict(sorted(files.items()))


def write(files: Files, folder: Path) -> None:
    """Write them below `folder`; what else is there stays."""
    for path, text in files.items():
        target = folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text, encoding="utf-8")


def differences(files: Files, folder: Path) -> list[Difference]:
    """What `write` would change, as unified diffs."""
    found = []
    for path, text in files.items():
        target = folder / path
        old = target.read_text(encoding="utf-8") if target.exists() else ""
        lines = difflib.unified_diff(
            old.splitlines(), text.splitlines(), str(target), f"{target} (rendered)", lineterm=""
        )
        found.append(Difference(path, tuple(lines)))
    return [each for each in found if each.lines]


def _parts(config: ClusterConfig) -> dict[str, list[Object]]:
    makers: dict[str, Callable[[ClusterConfig], Object]] = {
        NAMESPACE: namespace,
        "config": config_map,
        "raycluster": ray_cluster,
        "launcher": launcher,
        "service": service,
        "network": embeddings,
    }
    parts = {name: [make(config)] for name, make in makers.items()}
    parts["disruption"] = disruption_budgets(config)
    if config.kubernetes.monitoring:
        parts["podmonitor"] = [pod_monitor(config)]
    found = [str(refusal) for things in parts.values() for thing in things for refusal in refusals(thing)]
    if found:
        raise CannotRender("\n".join(found))
    return parts


def _shared() -> Files:
    account: Object = {
        "apiVersion": "v1",
        "kind": "ServiceAccount",
        "metadata": metadata(ACCOUNT, "account"),
        "automountServiceAccountToken": False,  # no pod asks the API server for anything, and no role is bound to it
    }
    base = {"account": [account], "network": policies(), "redis": redis()}
    monitoring = {"alerts": [prometheus_rule()], "dashboard": [dashboard()]}
    files: Files = {}
    for folder, parts in (("base", base), ("monitoring", monitoring)):
        files |= {f"{folder}/{name}.yaml": _documents(things) for name, things in parts.items()}
        files[f"{folder}/kustomization.yaml"] = _documents([_kustomization(None, [f"{name}.yaml" for name in parts])])
    return files


def _kustomization(namespace_name: str | None, resources: list[str]) -> Object:
    named = {} if namespace_name is None else {"namespace": namespace_name}
    return {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        **named,
        "resources": resources,
    }


def _component(before: dict[str, list[Object]], after: dict[str, list[Object]]) -> str:
    made: Any = component(
        [each for part in before.values() for each in part], [each for part in after.values() for each in part]
    )
    for patch in made["patches"]:
        patch["patch"] = yaml.dump(patch.pop("operations"), Dumper=_Dumper, sort_keys=False, width=120)
    return _documents([made])


class _Dumper(yaml.SafeDumper):
    """Blocks for texts of several lines, no anchors, and lists indented as kubectl prints them."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)


_Dumper.add_representer(str, _text)


def _documents(things: list[Object]) -> str:
    return _HEAD + "---\n".join(yaml.dump(thing, Dumper=_Dumper, sort_keys=False, width=120) for thing in things)
