"""A setting for tests, with servers in vLLM's place that say how they were started."""

from pathlib import Path

import pytest

from bench.topologies import resources, stock
from bench.topologies.setting import Setting

SERVER = Path(__file__).with_name("stock_server.py")


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """The folder of something like a model, with its weights."""
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "model.safetensors").write_bytes(b"w" * 1000)
    return folder


@pytest.fixture
def setting(model: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Setting:
    monkeypatch.setattr(stock, "SERVER", (str(SERVER),))
    monkeypatch.setattr(resources, "ENGINE_BYTES", 0)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return Setting(model)
