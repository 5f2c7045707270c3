"""The hook of the gateway's pod, run beside a driver that Ray's job has started."""

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from kube_tools import ROOT

from chiasm.config import ClusterConfig
from chiasm.kubernetes.launcher import ENTRYPOINT
from chiasm.kubernetes.ray_cluster import ray_cluster

PATIENCE_S = 40.0

# Told to end, `chiasm serve` takes its time.
DRIVER = """#!{python}
import pathlib, signal, time

def drain(*_):
    time.sleep(0.5)
    pathlib.Path("drained").touch()
    raise SystemExit

signal.signal(signal.SIGTERM, drain)
print("serves", flush=True)
time.sleep(600)
"""


@pytest.fixture
def pod(tmp_path: Path) -> Path:
    """Where there is a `chiasm`, and where it works."""
    program = tmp_path / "chiasm"
    program.write_text(DRIVER.format(python=sys.executable))
    program.chmod(0o755)
    return tmp_path


@contextmanager
def started(pod: Path, entrypoint: str) -> "Iterator[subprocess.Popen[str]]":
    """A driver, as Ray starts jobs."""
    env = os.environ | {"PATH": f"{pod}{os.pathsep}{os.environ['PATH']}"}
    job = subprocess.Popen(
        entrypoint, shell=True, start_new_session=True, cwd=pod, env=env, stdout=subprocess.PIPE, text=True
    )
    with job:
        try:
            assert job.stdout is not None
            assert job.stdout.readline() == "serves\n"
            yield job
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(job.pid, signal.SIGKILL)


def run_hook() -> None:
    cluster: Any = ray_cluster(ClusterConfig())
    pool = next(each for each in cluster["spec"]["workerGroupSpecs"] if each["groupName"] == "gateway")
    program, *arguments = pool["template"]["spec"]["containers"][0]["lifecycle"]["preStop"]["exec"]["command"]
    assert program == "python"
    subprocess.run([sys.executable, *arguments], cwd=ROOT, check=True, timeout=PATIENCE_S)


def test_it_ends_when_the_driver_has_drained(pod: Path) -> None:
    with started(pod, ENTRYPOINT) as job:
        run_hook()
        assert (pod / "drained").exists()
        assert job.wait(PATIENCE_S) == 0


def test_it_leaves_others_alone(pod: Path) -> None:
    with started(pod, "exec chiasm serve --config elsewhere.yaml") as other:
        run_hook()
        assert other.poll() is None


def test_it_waits_for_nobody_where_no_driver_is() -> None:
    run_hook()
