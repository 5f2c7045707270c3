"""What is left when the driver, `chiasm serve`, is killed: nothing."""

import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from ray.cluster_utils import Cluster as Raylets

pytestmark = [pytest.mark.engine, pytest.mark.timeout(180)]

DRIVER = Path(__file__).with_name("standin_driver.py")
ENDED_S = 60.0


def lives(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


@pytest.fixture
def address() -> Iterator[str]:
    """Of a Ray cluster that outlives its drivers."""
    raylets = Raylets()
    raylets.add_node(num_cpus=2, include_dashboard=False, object_store_memory=80 << 20)
    yield raylets.address
    raylets.shutdown()


def test_no_process_of_an_engine_outlives_the_driver(address: str) -> None:
    """Ray ends its actors then, and would first kill the guards that see to their engines."""
    with tempfile.TemporaryDirectory(prefix="chiasm-") as folder:  # short enough for a socket's name
        with subprocess.Popen([sys.executable, DRIVER, folder, address], stdout=subprocess.PIPE, text=True) as driver:
            assert driver.stdout is not None
            processes = [int(pid) for pid in driver.stdout.readline().split()]
            driver.kill()
        assert len(processes) == 3
        deadline = time.monotonic() + ENDED_S
        while left := [pid for pid in processes if lives(pid)]:
            assert time.monotonic() < deadline, left
            time.sleep(0.1)
