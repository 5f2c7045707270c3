"""What `pip install` of Chiasm brings: every file of its packages, and none of the tests."""

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.engine  # no engine, but setuptools takes its seconds
def test_the_wheel_carries_the_builtin_model_dashboard_and_alerts(tmp_path: Path) -> None:
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    source = tmp_path / "source"  # not the checkout itself, which would keep what the build leaves behind
    for name in tracked:
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_bytes((ROOT / name).read_bytes())
    build = "from setuptools import build_meta; import sys; build_meta.build_wheel(sys.argv[1])"
    subprocess.run([sys.executable, "-c", build, str(tmp_path)], cwd=source, capture_output=True, check=True)
    [wheel] = tmp_path.glob("*.whl")
    packed = set(zipfile.ZipFile(wheel).namelist())
    data = {name for name in tracked if name.startswith("chiasm/") and not name.endswith(".py")}
    assert {Path(name).suffix for name in data} >= {".safetensors", ".json", ".yaml"}
    assert data <= packed
    assert not {name.split("/")[0] for name in packed} - {
        *("chiasm", "encoder", "decoder", "scheduler", "bench"),
        wheel.name.rsplit("-", 3)[0] + ".dist-info",
    }
