"""One stock vLLM server as a child process: its command line for a role, its start, its log, its end.

The child runs under `chiasm.engine_guard`, which outlives the owner just long enough to clean up. Must not import Ray,
vLLM or torch: the engine's Python does that, in its own process.
"""

import contextlib
import json
import os
import re
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

from chiasm.nouns import Role
from chiasm.telemetry.engine.memory import RECORDS_VARIABLE
from chiasm.wire.keys import ClusterKeys
from chiasm.wire.settings import RUNTIME_VARIABLE

STOP_GRACE_S = 10.0
READY_POLL_S = 0.25
HOLD_TIMEOUT_S = 30.0  # an engine is held between two steps, and on a CPU a step with a long prompt in it takes seconds
LOG_TAIL = 40

_NO_MEDIA = ("--limit-mm-per-prompt", '{"image": 0, "video": 0}')

# What a line of the engine's log says about how far the start has come. For display only: readiness is /health.
_STAGES: tuple[tuple[re.Pattern[str], str], ...] = tuple(
    (re.compile(pattern), stage)
    for pattern, stage in (
        (r"non-default args", "reading the model's configuration"),
        (r"Initializing a V1 LLM engine", "starting the engine core"),
        (r"Starting to load model|Loading safetensors", "loading weights"),
        (r"Loading weights took", "preparing memory"),
        (r"Warming up model", "compiling and warming up"),
        (r"KV cache size", "allocating the KV cache"),
        (r"Started server process", "opening the endpoint"),
    )
)


# The first exception in the log is the cause; what follows it are processes that missed the one that died.
_CAUSE = re.compile(r"\b(\w+(?:Error|Exception): (?!Engine core initialization failed).+)")


class EngineFailed(RuntimeError):
    """The engine did not start, or died; the message ends with the last lines of its log."""


@dataclass(frozen=True)
class EngineSpec:
    """Everything that one engine is started with."""

    name: str
    role: Role
    model: str
    served_name: str
    token: str  # bearer token for the engine's /v1 routes
    revision: str | None = None
    files: str = ""  # of the model's folder, if it has one: see `chiasm.model_files`
    host: str = "127.0.0.1"
    cpus: str | None = None  # cores, e.g. "0-3", to be shared with no other engine; None leaves it to the system
    args: tuple[str, ...] = ()  # last on the command line, so they win
    env: Mapping[str, str] = field(default_factory=dict)
    connector: Mapping[str, Any] = field(default_factory=dict)  # settings of the embedding connector
    keys: ClusterKeys | None = None
    records: bool = True  # whether it remembers what it does, and measures its phases
    traces: str | None = None  # the collector that its own spans go to

    def command(self, port: int) -> list[str]:
        """The vLLM server's command line."""
        command = [sys.executable, "-m", "vllm.entrypoints.openai.api_server"]
        command += ["--model", self.model, "--served-model-name", self.served_name]
        command += ["--host", self.host, "--port", str(port), "--disable-uvicorn-access-log"]
        command += ["--worker-extension-cls", "chiasm.plugins.EngineReport"]
        command += ["--middleware", "chiasm.plugins.RequireToken"]
        command += ["--trust-request-mm-kwargs"]  # only the gateway asks, and it has decided which it lets through
        if self.records:
            command += ["--enable-logging-iteration-details"]  # `RecordsLogger` drops the lines that come of it
        if self.traces is not None:
            command += ["--otlp-traces-endpoint", self.traces]
        if self.revision is not None:
            command += ["--revision", self.revision]
        if self.role is Role.ENCODER:
            command += self._connector_flag("ec_producer", "encoder.connector", "PublishingConnector")
        elif self.role is Role.DECODER:
            command += self._connector_flag("ec_consumer", "decoder.connector", "FetchingConnector")
        if self.role in (Role.DECODER, Role.TEXT):
            command += _NO_MEDIA  # with no item allowed in, vLLM loads no vision tower
        return command + list(self.args)

    def _connector_flag(self, ec_role: str, module: str, name: str) -> list[str]:
        settings = {
            "ec_connector": name,
            "ec_connector_module_path": module,
            "ec_role": ec_role,
            "ec_connector_extra_config": dict(self.connector),
        }
        return ["--ec-transfer-config", json.dumps(settings)]

    def environment(self, runtime: Path) -> dict[str, str]:
        """The child's environment: ours, plus what the engine needs."""
        environment = {**os.environ, RUNTIME_VARIABLE: str(runtime), "VLLM_API_KEY": self.token}
        environment[RECORDS_VARIABLE] = str(int(self.records))
        environment["OTEL_SERVICE_NAME"] = f"chiasm-{self.name}"
        environment["VLLM_RPC_BASE_PATH"] = str(runtime)  # vLLM's own sockets, which it leaves behind
        environment["VLLM_PLUGINS"] = ",".join(_plugins(os.environ.get("VLLM_PLUGINS"), self.records))
        # Ray sets OMP_NUM_THREADS to its own idea of an actor's cores; vLLM derives it from the binding.
        environment.pop("OMP_NUM_THREADS", None)
        # Left to itself, vLLM binds the worker of every engine to the same first cores.
        environment["VLLM_CPU_OMP_THREADS_BIND"] = self.cpus or "nobind"
        return environment | dict(self.env)


_RECORDS = "chiasm_records"


def _plugins(chosen: str | None, records: bool) -> list[str]:
    """vLLM loads endpoint plugins only if VLLM_PLUGINS names them, and then only what it names: so name all.

    Without `records` all but the one that keeps them, for with it vLLM makes its statistics whatever its flags say.
    """
    ours = ["chiasm", "chiasm_models", *([_RECORDS] if records else [])]
    if chosen is not None:
        return [*chosen.split(","), *ours]
    groups = ("general", "platform", "io_processor", "stat_logger")
    names = {point.name for group in groups for point in entry_points(group=f"vllm.{group}_plugins")}
    return [*sorted(names - {*ours, _RECORDS}), *ours]


class Engine:
    """A running (or starting, or ended) engine. All methods may be called from any thread."""

    def __init__(self, spec: EngineSpec, log: Callable[[str], None]) -> None:
        self.spec = spec
        self.port = _free_port(spec.host)
        self.stage = "starting the process"
        self._log = log
        self._tail: deque[str] = deque(maxlen=LOG_TAIL)
        self._cause: str | None = None
        self.runtime = _make_runtime()
        if spec.keys is not None:
            spec.keys.save(self.runtime / "keys.json")
        self._process = self._spawn()
        self._reader = threading.Thread(target=self._read_log, name=f"log-{spec.name}", daemon=True)
        self._reader.start()

    @property
    def url(self) -> str:
        """Base URL of the engine's HTTP server."""
        return f"http://{self.spec.host}:{self.port}"

    @property
    def pid(self) -> int:
        """Of the guard, whose descendants all its processes are."""
        return self._process.pid

    def _spawn(self) -> subprocess.Popen[bytes]:
        guard = [sys.executable, "-m", "chiasm.engine_guard", "--runtime", str(self.runtime)]
        guard += ["--grace", str(STOP_GRACE_S)]
        if self.spec.cpus is not None:
            guard += ["--cpus", self.spec.cpus]
        return subprocess.Popen(
            [*guard, "--", *self.spec.command(self.port)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=self.spec.environment(self.runtime),
            start_new_session=True,  # a Ctrl-C in the terminal is for the owner, who then stops the engine
        )

    def _read_log(self) -> None:
        assert self._process.stdout is not None
        for raw in self._process.stdout:
            line = raw.decode(errors="replace").rstrip()
            self._tail.append(line)
            self._log(f"[{self.spec.name}] {line}")
            if self._cause is None and (cause := _CAUSE.search(line)):
                self._cause = cause.group(1)
            for pattern, stage in _STAGES:
                if pattern.search(line):
                    self.stage = stage

    def wait_ready(self, timeout_s: float) -> None:
        """Return when the engine answers.

        Raises:
            EngineFailed: it ended, or did not answer within `timeout_s`; in the latter case it is stopped.
        """
        deadline = time.monotonic() + timeout_s
        while not self.answers():
            if self._process.poll() is not None:
                raise self.failure()
            if time.monotonic() > deadline:
                self.stop()
                raise EngineFailed(f"{self.spec.name} was not ready after {timeout_s:.0f} s{self._last_lines()}")
            time.sleep(READY_POLL_S)
        self.stage = "ready"

    def answers(self) -> bool:
        """Whether the engine's server says that it is well."""
        try:
            with urllib.request.urlopen(f"{self.url}/health", timeout=5) as answer:
                return bool(answer.status == 200)
        except (urllib.error.URLError, OSError):
            return False

    def wait(self) -> int:
        """Block until the engine has ended; returns its exit code."""
        return self._process.wait()

    def failure(self) -> EngineFailed:
        """What to raise for an engine that ended by itself."""
        self._reader.join(timeout=1)
        cause = f" ({self._cause})" if self._cause is not None else ""
        return EngineFailed(f"{self.spec.name} ended with exit code {self._process.poll()}{cause}{self._last_lines()}")

    def _last_lines(self) -> str:
        return "; the last lines of its log:\n  " + "\n  ".join(self._tail)

    def get(self, path: str, timeout_s: float = 10.0) -> str:
        """GET a route of the engine with its token.

        Raises:
            OSError: no answer, or not 200 (`urllib.error.HTTPError`).
        """
        return self._ask("GET", path, timeout_s)

    def hold(self, held: bool, since: float) -> None:
        """Stop at the next token boundary and keep the KV cache, or go on. One call at a time.

        `since` is when that was wanted, in unix seconds: the engine measures how long it takes to stand still.

        Raises:
            EngineFailed: no answer within `HOLD_TIMEOUT_S`, or an error.
        """
        verb = "pause" if held else "resume"
        try:
            self._ask("POST", f"/v1/chiasm/{verb}?since={since}", HOLD_TIMEOUT_S)
        except OSError as error:
            raise EngineFailed(f"{self.spec.name} did not {verb} when told: {error}{self._last_lines()}") from error

    def _ask(self, method: str, path: str, timeout_s: float) -> str:
        headers = {"Authorization": f"Bearer {self.spec.token}"}
        request = urllib.request.Request(self.url + path, method=method, headers=headers)
        with urllib.request.urlopen(request, timeout=timeout_s) as answer:
            return str(answer.read().decode())

    def kv_cache_tokens(self) -> int:
        """Tokens that requests can have in the engine's KV cache; 0 without one. vLLM keeps a block for itself."""
        line = re.search(r"^vllm:cache_config_info\{.*", self.get("/metrics"), re.MULTILINE)
        sizes = re.findall(r'\b(kv_cache_size_tokens|block_size)="(\d+)"', line.group()) if line else []
        found = {name: int(size) for name, size in sizes}
        return max(0, found.get("kv_cache_size_tokens", 0) - found.get("block_size", 0))

    def stop(self) -> None:
        """End the engine and all its processes, and return when they are gone. May be called twice."""
        assert self._process.stdin is not None
        with contextlib.suppress(OSError):
            self._process.stdin.close()  # the guard takes it from here
        try:
            self._process.wait(timeout=3 * STOP_GRACE_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        shutil.rmtree(self.runtime, ignore_errors=True)  # for a guard that was killed itself
        self._reader.join(timeout=STOP_GRACE_S)
        if not self._reader.is_alive() and self._process.stdout is not None:
            self._process.stdout.close()


def _make_runtime() -> Path:
    """The engine's own folder for sockets, keys and landed embeddings, in memory where the machine offers that."""
    shared = Path("/dev/shm")
    parent = shared if os.access(shared, os.W_OK) else Path(tempfile.gettempdir())
    runtime = parent / f"chiasm-{secrets.token_hex(6)}"
    runtime.mkdir(mode=0o700)
    return runtime


def _free_port(host: str) -> int:
    # Somebody may take it before vLLM binds it; the engine then fails, and its supervisor tries again with another.
    with socket.socket() as probe:
        probe.bind((host, 0))
        port: int = probe.getsockname()[1]
    return port
