"""A real `kubectl apply --server-side` of every overlay, to a stand-in for the API server."""

import asyncio
import os
from pathlib import Path

import pytest
import yaml
from fake_apiserver import FakeApiServer, api_server
from kube_tools import ALL_NAMES, OVERLAYS, objects_of, tool

from chiasm.kubernetes.secrets import new_secrets

pytestmark = pytest.mark.slow

APPLY_S = 50


@pytest.fixture(autouse=True)
def _validators() -> None:
    for module in ("kubernetes_validate", "jsonschema", "celpy"):
        pytest.importorskip(module, reason=f"{module} is in the extra `dev`")


async def apply(server: FakeApiServer, home: Path, *what: str, stdin: str = "") -> tuple[int, str, str]:
    """kubectl's exit code and what it said; it knows no other cluster, and keeps what it caches below `home`."""
    command = [tool("kubectl"), f"--server={server.url}", f"--cache-dir={home}", "apply", "--server-side"]
    process = await asyncio.create_subprocess_exec(
        *command,
        "--validate=false",  # the server's schemas are what counts, and the stand-in publishes none
        *what,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={"PATH": os.environ.get("PATH", ""), "HOME": str(home), "KUBECONFIG": os.devnull},
    )
    try:
        out, error = await asyncio.wait_for(process.communicate(stdin.encode()), APPLY_S)
    except TimeoutError:
        process.kill()
        await process.wait()
        raise
    assert process.returncode is not None
    return process.returncode, out.decode(), error.decode()


@pytest.mark.parametrize("name", ALL_NAMES)
async def test_an_overlay_is_applied(name: str, tmp_path: Path) -> None:
    async with api_server() as server:
        code, out, error = await apply(server, tmp_path, "-k", str(OVERLAYS / name))
        assert code == 0, error
        assert len(out.splitlines()) == len(objects_of(name)) == len(server.objects)
        assert all(line.endswith("serverside-applied") for line in out.splitlines())
        [cluster] = [each for each in server.objects.values() if each["kind"] == "RayCluster"]
        assert cluster["metadata"]["namespace"] in ("chiasm", "chiasm-dev")


async def test_applying_again_changes_no_object(tmp_path: Path) -> None:
    async with api_server() as server:
        await apply(server, tmp_path, "-k", str(OVERLAYS / "dev-cpu"))
        before = {key: each["metadata"]["name"] for key, each in server.objects.items()}
        code, _, error = await apply(server, tmp_path, "-k", str(OVERLAYS / "dev-cpu"))
        assert code == 0, error
        assert {key: each["metadata"]["name"] for key, each in server.objects.items()} == before


async def test_new_secrets_are_applied_from_standard_input(tmp_path: Path) -> None:
    async with api_server() as server:
        text = yaml.safe_dump_all(new_secrets("chiasm"))
        code, _, error = await apply(server, tmp_path, "-f", "-", stdin=text)
        assert code == 0, error
        names = {key[3] for key in server.objects}
    assert names == {"chiasm-keys", "chiasm-redis"}


async def test_what_a_strict_server_refuses_is_told(tmp_path: Path) -> None:
    things = [each for each in objects_of("dev-cpu") if each["kind"] == "RayCluster"]
    things[0]["spec"]["workerGroups"] = []
    async with api_server() as server:
        code, _, error = await apply(server, tmp_path, "-f", "-", stdin=yaml.safe_dump_all(things))
        assert not server.objects
    assert code == 1
    assert "'workerGroups' was unexpected" in error
