"""Any module of the benchmarks can be the first that is imported."""

import subprocess
import sys

import pytest

pytestmark = pytest.mark.slow

MODULES = [
    "card_copies",
    "cli",
    "clients",
    "diagnosis.command",
    "fan_out",
    "itl.command",
    "kv_bytes",
    "overhead.command",
    "phases",
    "placement",
    "profile",
    "pupil",
    "serve.command",
    "serving",
    "stealing",
    "vllm_epd.command",
]


@pytest.mark.parametrize("module", MODULES)
def test_it_needs_nobody_before_it(module: str) -> None:
    subprocess.run([sys.executable, "-c", f"import bench.{module}"], check=True, timeout=50)
