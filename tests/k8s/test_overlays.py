"""Every overlay in `k8s/`: what kubectl makes of it, by every check that can be had without a cluster."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from kube_placement import cluster_yaml
from kube_pods import all_pods, of_kind
from kube_schemas import refused
from kube_semantics import faults
from kube_tools import ALL_NAMES, NAMES, OVERLAYS, ROOT, kustomize, objects_of

from chiasm.config_file import load_config
from chiasm.kubernetes.command import with_changes
from chiasm.kubernetes.names import POOLS, pools
from chiasm.kubernetes.pods import GPU
from chiasm.kubernetes.render import render
from chiasm.kubernetes.rules import refusals

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("name", NAMES)
def test_overlays_are_what_render_makes_of_the_file_beside_them(name: str) -> None:
    folder = OVERLAYS / name
    config = load_config(folder / "cluster.yaml")
    files = render(config, name, with_changes(folder / "cluster.yaml", folder / "stealing.yaml"))
    for path, text in files.items():
        assert (ROOT / "k8s" / path).read_text() == text, f"{path}: make manifests"


def test_nothing_else_is_there() -> None:
    made = {path for name in NAMES for path in render(load_config(OVERLAYS / name / "cluster.yaml"), name)}
    made |= {f"overlays/{name}/stealing/kustomization.yaml" for name in NAMES}
    made |= {f"overlays/{name}-stealing/kustomization.yaml" for name in NAMES}
    inputs = {f"overlays/{name}/{file}" for name in NAMES for file in ("cluster.yaml", "stealing.yaml")}
    there = {str(path.relative_to(ROOT / "k8s")) for path in (ROOT / "k8s").rglob("*.yaml")}
    assert there == made | inputs


@pytest.mark.parametrize("name", ALL_NAMES)
def test_kubernetes_and_kuberay_take_every_object(name: str) -> None:
    for module in ("kubernetes_validate", "jsonschema", "celpy"):
        pytest.importorskip(module, reason=f"{module} is in the extra `dev`")
    objects = objects_of(name)
    assert {"RayCluster", "RayJob", "Service", "NetworkPolicy", "PodDisruptionBudget"} <= {
        each["kind"] for each in objects
    }
    for thing in objects:
        assert refused(thing) == [], thing["metadata"]["name"]
        assert refusals(thing) == [], thing["metadata"]["name"]


@pytest.mark.parametrize("name", ALL_NAMES)
def test_objects_fit_each_other(name: str) -> None:
    assert faults(objects_of(name)) == []


@pytest.mark.parametrize("name", ALL_NAMES)
def test_each_worker_has_a_pod_with_its_cards(name: str) -> None:
    objects = objects_of(name)
    pods = {each.ray_group["groupName"]: each for each in all_pods(objects) if each.ray_group is not None}
    for pool_name, pool in pools(cluster_yaml(objects)).items():
        group = pods[POOLS[pool_name]]
        assert group.count == pool.count
        assert float(group.container["resources"]["limits"].get(GPU, 0)) == pool.gpus


@pytest.mark.parametrize("name", NAMES)
def test_the_component_turns_stealing_on(name: str) -> None:
    plain, stealing = objects_of(name), objects_of(f"{name}-stealing")
    assert cluster_yaml(plain).scheduler.stealing == "off"
    assert cluster_yaml(stealing).scheduler.stealing == "yield"

    def memory(objects: list[dict[str, Any]]) -> list[str]:
        return [each.container["resources"]["limits"]["memory"] for each in all_pods(objects)]

    changed = [one != other for one, other in zip(memory(plain), memory(stealing), strict=True)]
    assert sum(changed) == 1  # encoders alone
    for monitor in of_kind(stealing, "PodMonitor"):
        paths = [each["path"] for each in monitor["spec"]["podMetricsEndpoints"]]
        assert "/metrics/workers/encoder-0-text" in paths


def test_a_component_does_not_change_what_it_was_not_made_for(tmp_path: Path) -> None:
    subprocess.run(["cp", "-r", str(ROOT / "k8s"), str(tmp_path)], check=True)
    cluster = tmp_path / "k8s/overlays/dev-cpu/raycluster.yaml"
    cluster.write_text(cluster.read_text().replace("10Gi", "11Gi"))
    done = kustomize(tmp_path / "k8s/overlays/dev-cpu-stealing")
    assert done.returncode != 0
    assert "test failed" in done.stderr or "testing value" in done.stderr, done.stderr


@pytest.mark.parametrize("name", NAMES)
def test_no_secret_is_in_a_manifest(name: str) -> None:
    objects = objects_of(name)
    assert not of_kind(objects, "Secret")
    assert "api_keys" not in yaml.safe_dump(objects)


def test_ray_knows_the_parameters_that_its_nodes_start_with() -> None:
    pytest.importorskip("ray")
    program = "from ray.scripts.scripts import start; print(*[name for each in start.params for name in each.opts])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=50, check=True)
    known = set(done.stdout.split())
    for pods in all_pods(objects_of("rtx4090-a100")):
        if pods.ray_group is not None:
            assert {f"--{name}" for name in pods.ray_group["rayStartParams"]} <= known


def test_ports_of_the_configuration_are_those_of_the_manifests() -> None:
    objects = objects_of("rtx4090-a100")
    config = cluster_yaml(objects)
    pods = {each.ray_group["groupName"]: each for each in all_pods(objects) if each.ray_group is not None}
    assert pods["gateway"].has_port(config.gateway.port)
    assert pods["gateway"].has_port(config.scheduler.port)
    assert pods["encoder"].has_port(config.wire.port)
