"""What torch and vLLM load of Chiasm: cures for CUDA builds beside a CPU torch, and classes in the place of vLLM's."""

import ast
import importlib.util
import subprocess
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

from chiasm import plugins
from chiasm.families import COUNTED, DEEPSTACK
from chiasm.wire.settings import RUNTIME_VARIABLE


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


def test_classes_are_replaced_in_our_engines_and_nowhere_else(monkeypatch: pytest.MonkeyPatch) -> None:
    replaced: dict[str, str] = {}
    vllm = ModuleType("vllm")
    vllm.ModelRegistry = SimpleNamespace(register_model=replaced.__setitem__)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "vllm", vllm)
    monkeypatch.delenv(RUNTIME_VARIABLE, raising=False)
    plugins.register_models()
    assert replaced == {}
    monkeypatch.setenv(RUNTIME_VARIABLE, "/nowhere")
    plugins.register_models()
    assert replaced.keys() == {*DEEPSTACK, *COUNTED}
    assert all(name in _classes(module) for module, name in (ours.split(":") for ours in replaced.values()))


def _classes(module: str) -> set[str]:
    # Read, not imported: these modules import vLLM.
    spec = importlib.util.find_spec(module)
    assert spec is not None
    assert spec.origin is not None
    return {node.name for node in ast.parse(Path(spec.origin).read_text()).body if isinstance(node, ast.ClassDef)}


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
