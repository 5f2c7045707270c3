"""The Dockerfiles, as far as they can be tried without building an image: linted, and each step run or rehearsed."""

import asyncio
import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
import zipfile
from dataclasses import dataclass
from pathlib import Path

import pytest
from aiohttp import web
from kube_tools import ROOT, tool
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from chiasm.kubernetes.names import HTTP_PORT
from chiasm.kubernetes.pods import HOME, USER

pytestmark = pytest.mark.slow

KINDS = ("cpu", "gpu")
STEP_S = 50


@dataclass(frozen=True)
class Instruction:
    name: str
    rest: str


def instructions(kind: str) -> list[Instruction]:
    """Those of a Dockerfile, with lines that go on put together."""
    text = (ROOT / "docker" / f"{kind}.Dockerfile").read_text()
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    whole = re.sub(r"\\\n\s*", "", "\n".join(lines)).splitlines()
    return [Instruction(*line.split(maxsplit=1)) for line in whole if line.strip()]


def rests(kind: str, name: str) -> list[str]:
    return [each.rest for each in instructions(kind) if each.name == name]


def steps(kind: str) -> list[list[str]]:
    """The commands of all RUN lines, as words."""
    return [shlex.split(command) for line in rests(kind, "RUN") for command in line.split("&&")]


@pytest.mark.parametrize("kind", KINDS)
def test_hadolint_finds_nothing(kind: str) -> None:
    path = ROOT / "docker" / f"{kind}.Dockerfile"
    done = subprocess.run(
        [tool("hadolint"), "--no-color", str(path)], capture_output=True, text=True, timeout=STEP_S, check=False
    )
    assert (done.returncode, done.stdout) == (0, ""), done.stdout + done.stderr


@pytest.mark.parametrize("kind", KINDS)
def test_images_are_pinned_and_end_without_root(kind: str) -> None:
    bases = [each.split()[0] for each in rests(kind, "FROM")]
    assert len(bases) == 2  # what builds stays behind
    assert len(set(bases)) == 1
    assert re.fullmatch(r"python:3\.11\.\d+-slim-bookworm", bases[0])
    assert rests(kind, "USER") == [f"{USER}:{USER}"]
    assert rests(kind, "WORKDIR")[-1] == HOME


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_copied_is_there_and_not_ignored(kind: str) -> None:
    let_in = [line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")]
    for line in rests(kind, "COPY"):
        if line.startswith("--from="):
            continue
        for source in line.split()[:-1]:
            assert (ROOT / source).exists(), source
            assert any(Path(source).match(pattern) for pattern in let_in), source


@pytest.mark.parametrize("kind", KINDS)
def test_the_lock_has_what_the_project_asks_for(kind: str) -> None:
    lines = (ROOT / "docker" / f"{kind}.lock").read_text().splitlines()
    locked = dict(line.split("==") for line in lines if "==" in line)
    assert len(locked) == len(lines), "a lock names a version of everything, and nothing else"
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    for text in (*project["dependencies"], *project["optional-dependencies"][kind]):
        wanted = Requirement(text)
        version = locked[canonicalize_name(wanted.name)]
        assert wanted.specifier.contains(version, prereleases=True), f"{text}; locked is {version}"


@pytest.mark.parametrize("kind", KINDS)
def test_each_command_can_be_read_by_a_shell(kind: str) -> None:
    for line in rests(kind, "RUN"):
        subprocess.run(["sh", "-n", "-c", line], check=True, timeout=STEP_S)


@pytest.mark.parametrize("kind", KINDS)
def test_installers_know_the_options_that_they_are_given(kind: str) -> None:
    uv = tool("uv")
    seen = 0
    for words in steps(kind):
        if words[0] != "uv":
            continue
        verbs = words[1:3] if words[1] == "pip" else words[1:2]
        done = subprocess.run([uv, *verbs, "--help"], capture_output=True, text=True, timeout=STEP_S, check=True)
        for word in words:
            if word.startswith("-"):
                assert re.search(rf"(^|[\s,]){re.escape(word)}\b", done.stdout), f"uv {' '.join(verbs)} knows no {word}"
        seen += 1
    assert seen == 3


@pytest.mark.parametrize("kind", KINDS)
def test_apt_would_install_the_packages(kind: str) -> None:
    apt = tool("apt-get")
    [words] = [each for each in steps(kind) if each[:2] == ["apt-get", "install"]]
    names = [word for word in words[2:] if not word.startswith("-")]
    known = subprocess.run(["apt-cache", "show", "--no-all-versions", *names], capture_output=True, check=False)
    if known.returncode:
        pytest.skip("this machine's package lists do not have them (apt-get update)")
    done = subprocess.run([apt, "--simulate", *words[1:]], capture_output=True, text=True, timeout=STEP_S, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("kind", KINDS)
def test_the_user_is_made(kind: str, tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root may make users")
    (tmp_path / "etc").mkdir()
    for name in ("passwd", "group", "shadow", "gshadow"):
        (tmp_path / "etc" / name).touch()
    (tmp_path / "home").mkdir()
    for words in steps(kind):
        if words[0] in ("groupadd", "useradd"):
            command = [tool(words[0]), "--prefix", str(tmp_path), *words[1:]]
            done = subprocess.run(command, capture_output=True, text=True, timeout=STEP_S, check=False)
            assert done.returncode == 0, done.stderr
    [entry] = (tmp_path / "etc/passwd").read_text().splitlines()
    assert entry.split(":")[2:4] == [str(USER), str(USER)]
    assert entry.split(":")[5].endswith(HOME)


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_copied_is_enough_to_build_the_package(kind: str, tmp_path: Path) -> None:
    setuptools = pytest.importorskip("setuptools")
    if int(setuptools.__version__.split(".")[0]) < 78:
        pytest.skip("setuptools is older than pyproject.toml wants it")
    source = tmp_path / "src"
    source.mkdir()
    for line in rests(kind, "COPY"):
        if not line.startswith("--from="):
            *names, target = line.split()
            for name in names:
                into = source / target / Path(name).name if target.endswith("/") else source / target
                into.parent.mkdir(parents=True, exist_ok=True)
                if (ROOT / name).is_dir():
                    shutil.copytree(ROOT / name, into, ignore=shutil.ignore_patterns("__pycache__", "results"))
                else:
                    shutil.copy(ROOT / name, into)
    build = "import setuptools.build_meta as b; print(b.build_wheel('.'))"
    done = subprocess.run(
        [sys.executable, "-c", build], cwd=source, capture_output=True, text=True, timeout=STEP_S, check=False
    )
    assert done.returncode == 0, done.stderr
    [wheel] = source.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    for wanted in ("chiasm/kubernetes/render.py", "chiasm/telemetry/prometheus/alerts.yaml", "encoder/worker.py"):
        assert wanted in names
    assert any(name.startswith("chiasm/models/pupil/") for name in names)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("status", "code"), [(200, 0), (503, 1)])
async def test_the_health_check_goes_by_the_gateways_health(kind: str, status: int, code: int) -> None:
    [check] = rests(kind, "HEALTHCHECK")
    words = re.findall(r'"([^"]*)"', check.partition("CMD")[2])
    assert words[0] == "python"
    assert f"127.0.0.1:{HTTP_PORT}/health" in words[2]

    async def health(_request: web.Request) -> web.Response:
        return web.Response(status=status)

    application = web.Application()
    application.router.add_get("/health", health)
    runner = web.AppRunner(application)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        port = runner.addresses[0][1]
        command = [sys.executable, words[1], words[2].replace(f":{HTTP_PORT}/", f":{port}/")]
        process = await asyncio.create_subprocess_exec(*command, stderr=asyncio.subprocess.DEVNULL)
        assert await asyncio.wait_for(process.wait(), STEP_S) == code
    finally:
        await runner.cleanup()
