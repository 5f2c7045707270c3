"""CUDA builds of torch's companions beside a CPU torch."""

import subprocess
import sys
from pathlib import Path

import pytest

from chiasm import plugins


@pytest.mark.parametrize(
    ("version", "cuda"), [("1.0+cu130", True), ("1.0+cpu", False), ("1.0", False), ("1.0+custom", False)]
)
def test_a_cuda_build_is_known_by_its_version(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, version: str, cuda: bool
) -> None:
    package = tmp_path / "torchthing"
    package.mkdir()
    (package / "__init__.py").write_text("raise ImportError('must not be imported')")
    (package / "version.py").write_text(f"__version__ = '{version}'\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert plugins._built_with_cuda("torchthing") == cuda


def test_a_package_that_is_not_there_is_no_cuda_build() -> None:
    assert not plugins._built_with_cuda("no_such_package_anywhere")


@pytest.mark.engine
@pytest.mark.timeout(120)
def test_torchvision_imports_whatever_build_of_it_is_installed() -> None:
    run = subprocess.run(
        [sys.executable, "-c", "import torch, torchvision, transformers.image_utils, transformers.audio_utils"],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert run.returncode == 0, run.stderr
