"""Any module of the benchmarks can be the first that is imported."""

import subprocess
import sys

import pytest


@pytest.mark.parametrize("module", ["bench.cli", "bench.clients", "bench.placement", "bench.pupil", "bench.serving"])
def test_it_needs_nobody_before_it(module: str) -> None:
    subprocess.run([sys.executable, "-c", f"import {module}"], check=True, timeout=50)
