"""How the docs end a cluster, done with a real kubectl to a stand-in for the API server."""

import asyncio
import os
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from fake_apiserver import KINDS, FakeApiServer, Key, api_server
from kube_tools import OVERLAYS, ROOT, objects_in, tool

from chiasm.config import ClusterConfig
from chiasm.kubernetes.pods import END_DRIVER
from chiasm.kubernetes.render import render, write
from chiasm.kubernetes.secrets import new_secrets

pytestmark = pytest.mark.slow

PATIENCE_S = 50
KUBECTL = """#!/bin/sh
# What only pods could answer is answered here.
echo "$*" >> {log}
case "$*" in
  *"delete "*) exec {kubectl} --server={url} --cache-dir={home} "$@" ;;
  *"get pods -l ray.io/cluster={cluster},ray.io/group=gateway -o name") echo pod/the-gateway ;;
esac
"""


def blocks(page: str, heading: str) -> list[str]:
    """The commands below a heading of the docs, block by block."""
    text = (ROOT / "docs" / page).read_text()
    [section] = re.findall(rf"^## {heading}\n(.*?)(?=^## |\Z)", text, re.DOTALL | re.MULTILINE)
    return re.findall(r"^```bash\n(.*?)^```", section, re.DOTALL | re.MULTILINE)


def cluster(name: str, folder: Path) -> dict[Key, Any]:
    """The objects of a cluster whose manifests are now below the folder."""
    config = ClusterConfig.model_validate({"kubernetes": {"name": name}})
    write(render(config, name), folder / "k8s")
    return {_key(each): each for each in objects_in(folder / "k8s" / "overlays" / name)}


def once(name: str, folder: Path) -> dict[Key, Any]:
    """What is made once for a namespace, before its first cluster."""
    namespace = yaml.safe_load((folder / "k8s" / "overlays" / name / "namespace.yaml").read_text())
    return {_key(each): each for each in (namespace, *new_secrets("chiasm"))}


def _key(thing: Any) -> Key:
    group, _, version = thing["apiVersion"].rpartition("/")
    metadata = thing["metadata"]
    return group, KINDS[group, version][thing["kind"]], metadata.get("namespace", ""), metadata["name"]


async def done(server: FakeApiServer, folder: Path, of: str, commands: str) -> list[str]:
    """What kubectl is asked for, one after the other."""
    log, kubectl = folder / "log", folder / "bin" / "kubectl"
    kubectl.parent.mkdir()
    kubectl.write_text(KUBECTL.format(log=log, kubectl=tool("kubectl"), url=server.url, home=folder, cluster=of))
    kubectl.chmod(0o755)
    path = f"{kubectl.parent}{os.pathsep}{os.environ['PATH']}"
    process = await asyncio.create_subprocess_exec(
        "bash",
        "-euc",
        commands,
        cwd=folder,
        env={"PATH": path, "HOME": str(folder), "KUBECONFIG": os.devnull},
    )
    try:
        assert await asyncio.wait_for(process.wait(), PATIENCE_S) == 0
    except TimeoutError:
        process.kill()
        await process.wait()
        raise
    return log.read_text().splitlines()


def assert_drained_first(asked: list[str], server: FakeApiServer) -> None:
    """Answers are over before the launcher goes, and the launcher has gone before the Ray cluster."""
    drained = asked.index(f"-n chiasm exec pod/the-gateway -- {' '.join(END_DRIVER)}")
    assert drained < next(index for index, line in enumerate(asked) if " delete " in line)
    order = [key[1] for key in server.deleted]
    assert order.index("rayjobs") < order.index("rayclusters")


async def test_stop_takes_this_clusters_objects_and_no_others(tmp_path: Path) -> None:
    mine, other = cluster("chiasm", tmp_path), cluster("other", tmp_path)
    async with api_server() as server:
        server.objects = {**once("chiasm", tmp_path), **other, **mine}
        asked = await done(server, tmp_path, "chiasm", blocks("kubernetes.md", "Stop")[0])
        assert_drained_first(asked, server)
        assert set(server.deleted) == mine.keys() - other.keys()


async def test_what_clusters_share_goes_after_the_last_and_keys_stay(tmp_path: Path) -> None:
    mine = cluster("chiasm", tmp_path)
    async with api_server() as server:
        stays = once("chiasm", tmp_path)
        server.objects = {**stays, **mine}
        asked = await done(server, tmp_path, "chiasm", "\n".join(blocks("kubernetes.md", "Stop")[:2]))
        assert_drained_first(asked, server)
        assert server.objects == stays
        order = [key[1] for key in server.deleted]
        assert order.index("rayclusters") < order.index("statefulsets")  # Redis, of which KubeRay takes its leave


async def test_the_new_cluster_is_switched_to_before_the_old_one_is_drained_and_ended(tmp_path: Path) -> None:
    blue, green = cluster("chiasm-blue", tmp_path), cluster("chiasm-green", tmp_path)
    async with api_server() as server:
        server.objects = {**once("chiasm-blue", tmp_path), **blue, **green}
        commands = "cd k8s/overlays/chiasm-green\n" + blocks("upgrades.md", "Blue/green")[1]
        asked = await done(server, tmp_path, "chiasm-blue", commands)
        assert asked[0].startswith("-n chiasm patch service chiasm")
        assert_drained_first(asked, server)
        assert set(server.deleted) == blue.keys() - green.keys()


def test_the_new_cluster_is_applied_whole_but_for_its_service() -> None:
    [line] = [each for each in blocks("upgrades.md", "Blue/green")[0].splitlines() if " apply " in each]
    there = {path.name for path in (OVERLAYS / "rtx4090-a100").glob("*.yaml")}
    not_applied = {"cluster.yaml", "stealing.yaml", "kustomization.yaml", "namespace.yaml", "service.yaml"}
    assert set(re.findall(r"-f (\S+)", line)) == there - not_applied
