"""Any module of the benchmarks can be the first that is imported."""

import subprocess
import sys

import pytest

MODULES = [
    "card_copies",
    "cli",
    "clients",
    "itl.command",
    "kv_bytes",
    "phases",
    "placement",
    "profile",
    "pupil",
    "serving",
    "stealing",
]


@pytest.mark.parametrize("module", MODULES)
def test_it_needs_nobody_before_it(module: str) -> None:
    subprocess.run([sys.executable, "-c", f"import bench.{module}"], check=True, timeout=50)
