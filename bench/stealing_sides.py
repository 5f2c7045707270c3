"""What `bench.stealing` compares: clusters as `chiasm serve` starts them, and two text engines that are asked directly.

Every engine has one core and the same arguments. Encoder and text engine of a cluster are on the first core, its
decoder is on the second; of the two engines that are asked directly each has one of them.
"""

import os
import re
import secrets
import subprocess
import tempfile
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import psutil

from bench.streams import Target
from bench.topologies.chiasm_cluster import serve_command
from bench.topologies.program import NotServing, Program, start
from chiasm.client import get_json
from chiasm.engine import Engine, EngineSpec
from chiasm.nouns import Role

TEXT_KEY, IMAGE_KEY = "text", "images"  # API keys: an image waits for its turn, not for all the text before it
ENGINE_ARGS = (
    "--dtype=float32",
    "--enforce-eager",
    "--max-model-len=2048",
    "--max-num-seqs=8",
    "--max-num-batched-tokens=256",
    "--kv-cache-memory-bytes=134217728",
)


def cores() -> list[int]:
    """The two that engines run on."""
    return sorted(os.sched_getaffinity(0))[:2]


class Cluster(Program):
    """A running, or starting, `chiasm serve`."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        super().__init__(process, "chiasm serve")

    def target(self, key: str) -> Target:
        """Its gateway, for whoever has that API key."""
        return Target(self.url, key)

    def counters(self) -> dict[str, int]:
        """What its scheduler has counted."""
        counters: dict[str, int] = self._status()["counters"]
        return counters

    def pauses(self) -> dict[float, int]:
        """How many pauses of its text engine took at most so many seconds, as the engine says."""
        [url] = [worker["url"] for worker in self._status()["workers"] if worker["role"] == Role.TEXT]
        request = urllib.request.Request(f"{url}/metrics", headers={"Authorization": f"Bearer {self._engine_token()}"})
        with urllib.request.urlopen(request, timeout=10) as answer:
            metrics = answer.read().decode()
        found = re.findall(r'^chiasm_pause_seconds_bucket\{le="(\S+)"\} (\S+)$', metrics, re.MULTILINE)
        return {float(bound): int(float(count)) for bound, count in found}

    def _status(self) -> dict[str, Any]:
        target = self.target(TEXT_KEY)
        status: dict[str, Any] = get_json(target.url, "/v1/chiasm/status", target.key)
        return status

    def _engine_token(self) -> str:
        for process in psutil.Process(self._process.pid).children(recursive=True):
            if "vllm.entrypoints.openai.api_server" in process.cmdline():
                return process.environ()["VLLM_API_KEY"]
        raise NotServing("none of the cluster's engines runs any more")


@contextmanager
def starting_cluster(
    model: Path, stealing: Literal["off", "yield"], telemetry: Mapping[str, Any] | None = None
) -> Iterator[Cluster]:
    """One encoder and one decoder, for as long as the context lasts. It is still starting: see `wait_ready`."""
    first, second = cores()
    config = {
        "model": str(model),
        "served_model_name": "model",
        "gateway": {"port": 0, "api_keys": [TEXT_KEY, IMAGE_KEY]},
        "scheduler": {"stealing": stealing},
        "telemetry": telemetry or {},
        "encoders": {"cpus": [str(first)], "engine_args": list(ENGINE_ARGS)},
        "decoders": {"cpus": [str(second)], "engine_args": list(ENGINE_ARGS)},
    }
    with tempfile.TemporaryDirectory(prefix="chiasm-bench-") as folder:
        cluster = Cluster(start(serve_command(config, Path(folder))))
        try:
            yield cluster
        finally:
            cluster.stop()


@contextmanager
def starting_engines(model: Path) -> Iterator[Sequence[Engine]]:
    """Two text engines, for as long as the context lasts. They are still starting: see `Engine.wait_ready`."""
    token = secrets.token_urlsafe(16)
    engines: list[Engine] = []
    try:
        for core in cores():
            name = f"text-{core}"
            spec = EngineSpec(name, Role.TEXT, str(model), "model", token, cpus=str(core), args=ENGINE_ARGS)
            engines.append(Engine(spec, log=lambda _line: None))
        yield engines
    finally:
        for engine in engines:
            engine.stop()


def targets(engines: Sequence[Engine]) -> list[Target]:
    """These engines, to be asked directly."""
    return [Target(engine.url, engine.spec.token) for engine in engines]
