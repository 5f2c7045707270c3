"""A driver like `chiasm serve` with one worker, whose engine only sleeps, under a guard. Prints the engine's processes.

Not a test: `python standin_driver.py FOLDER ADDRESS`, by `test_driver_cluster.py`.
"""

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import chiasm.cluster
import chiasm.supervisor
from chiasm.cluster import Cluster, ray_session
from chiasm.config import ClusterConfig
from chiasm.engine import EngineSpec
from chiasm.pools import PoolConfig
from chiasm.preflight import ModelFacts
from encoder.worker import EncoderWorker

FACTS = ModelFacts("m", "m", "A", "r", 784, (1, 4096), None, 4096, ("image_grid_thw",))

# A server and its core, which does not notice when the server has gone.
FAMILY = """
import os, subprocess, sys, time
core = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
print(os.getpid(), core.pid, flush=True)
time.sleep(600)
"""


class SleepingEngine:
    """What the supervisor needs of `chiasm.engine.Engine`."""

    url = "http://127.0.0.1:1"
    stage = "ready"

    def __init__(self, spec: EngineSpec, log: Callable[[str], None]) -> None:
        folder = Path(spec.env["FOLDER"])
        self.runtime = Path(tempfile.mkdtemp(dir=folder))
        guard = [sys.executable, "-m", "chiasm.engine_guard", "--runtime", str(self.runtime), "--grace", "1"]
        self._guard = subprocess.Popen(
            [*guard, "--", sys.executable, "-c", FAMILY],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,  # as engines are, which a signal to the worker's group does not reach
        )
        assert self._guard.stdout is not None
        (folder / "processes").write_text(f"{self._guard.pid} {self._guard.stdout.readline()}")

    def wait_ready(self, timeout_s: float) -> None: ...

    def wait(self) -> int:
        return self._guard.wait()

    def stop(self) -> None:
        self._guard.communicate()


class SleepingEncoder(EncoderWorker):
    def __init__(self, *given: Any) -> None:
        chiasm.supervisor.Engine = SleepingEngine  # type: ignore[misc, assignment]
        super().__init__(*given)


def main(folder: str, address: str) -> None:
    chiasm.cluster.EncoderWorker = SleepingEncoder  # type: ignore[misc]
    given = {"gateway": {"port": 0}, "encoders": {"env": {"FOLDER": folder}}}
    # Nobody who generates: no operator could have that.
    config = ClusterConfig.model_validate(given).model_copy(update={"decoders": PoolConfig(count=0)})
    with ray_session(address, verbose=False):
        cluster = Cluster(config, FACTS, one_machine=True)
        cluster.start()
        cluster.wait_ready(lambda _: None)
        print(Path(folder, "processes").read_text(), flush=True)
        time.sleep(600)


if __name__ == "__main__":
    main(*sys.argv[1:])
