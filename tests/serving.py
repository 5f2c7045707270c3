"""`chiasm serve` in a process of its own, for tests and with the unsplit engine beside it."""

import os
import re
import signal
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import psutil

from chiasm.client import get_json, post_json
from chiasm.engine import Engine, EngineSpec
from chiasm.models.builtin import ENGINE_ARGS, model_folder
from chiasm.nouns import Role
from chiasm.telemetry.records import EngineRecords

START_TIMEOUT_S = 400.0
STOP_TIMEOUT_S = 60.0
CONFIG = """
served_model_name: model
gateway: {port: 0, allow_processor_options: true, max_items: 100}
"""


class Serving:
    """A running `chiasm serve`."""

    whole: Engine  # the unsplit engine to compare it with, where there is one

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.url = ""
        self.lines: list[str] = []
        self._ready = threading.Event()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.append(line)
            if found := re.search(r"ready: (http://\S+)/v1", line):
                self.url = found.group(1)
                self._ready.set()
        self._ready.set()

    def wait_ready(self) -> None:
        self._ready.wait(START_TIMEOUT_S)
        assert self.url, "".join(self.lines)

    def ask(self, body: dict[str, Any], key: str | None = None) -> dict[str, Any]:
        answer: dict[str, Any] = post_json(self.url, "/v1/chat/completions", body, key)[0]
        return answer

    def ask_whole(self, body: dict[str, Any]) -> dict[str, Any]:
        token = self.whole.spec.token
        answer: dict[str, Any] = post_json(self.whole.url, "/v1/chat/completions", body, token)[0]
        return answer

    def status(self, key: str | None = None) -> dict[str, Any]:
        status: dict[str, Any] = get_json(self.url, "/v1/chiasm/status", key)
        return status

    def front_end(self, role: str) -> psutil.Process:
        """The API server process of the only engine of a role."""
        for process in psutil.Process(self.process.pid).children(recursive=True):
            command = process.cmdline()
            serves = "vllm.entrypoints.openai.api_server" in command and "engine_guard" not in " ".join(command)
            if serves and role == _role(command):
                return process
        raise AssertionError(f"no {role} engine runs")

    def metrics(self, role: str) -> str:
        """The engine's own metrics."""
        [worker] = [worker for worker in self.status()["workers"] if worker["role"] == role]
        request = urllib.request.Request(worker["url"] + "/metrics")
        request.add_header("Authorization", "Bearer " + self.front_end(role).environ()["VLLM_API_KEY"])
        with urllib.request.urlopen(request, timeout=10) as answer:
            return str(answer.read().decode())

    def metric(self, role: str, name: str) -> float:
        """One number of the engine's metrics, over all its labels."""
        return sum(map(float, re.findall(rf"^{name}(?:{{.*}})? (\S+)$", self.metrics(role), re.MULTILINE)))

    def worker(self, role: str) -> psutil.Process:
        """The process of the worker that owns the engine of a role."""
        worker = self.front_end(role).parent()
        while worker is not None and "ray::" not in " ".join(worker.cmdline()):
            worker = worker.parent()
        assert worker is not None
        return worker

    def scheduler(self) -> psutil.Process:
        """The scheduler's process."""
        children = psutil.Process(self.process.pid).children(recursive=True)
        [found] = [one for one in children if " ".join(one.cmdline()).startswith("ray::Scheduler")]
        return found

    def engine_log(self, role: str) -> str:
        """What the engines of a role's worker have said so far: it prints that, and Ray keeps it in a file."""
        return Path(f"/proc/{self.worker(role).pid}/fd/1").resolve().read_text(errors="replace")

    def report(self, role: str) -> dict[str, dict[str, int]]:
        """What the engine itself says it holds and has done."""
        [worker] = [worker for worker in self.status()["workers"] if worker["role"] == role]
        token = self.front_end(role).environ()["VLLM_API_KEY"]
        [rank] = get_json(worker["url"], "/v1/chiasm/report", token)
        found: dict[str, dict[str, int]] = rank
        return found

    def records(self, role: str, query: str) -> EngineRecords:
        """What the only engine of a role remembers: `call=ID&key=KEY`, or `since=UNIX`."""
        [worker] = [worker for worker in self.status()["workers"] if worker["role"] == role]
        token = self.front_end(role).environ()["VLLM_API_KEY"]
        return msgspec.convert(get_json(worker["url"], f"/v1/chiasm/records?{query}", token), EngineRecords)


def _role(command: list[str]) -> str:
    """Of the engine that was started by this command."""
    connector = " ".join(command).partition("--ec-transfer-config")[2]
    if connector:
        return "encoder" if "ec_producer" in connector else "decoder"
    return "text" if "--limit-mm-per-prompt" in command else "whole"


@contextmanager
def running_serving(folder: Path, more_config: str = "", more_args: Sequence[str] = ()) -> Iterator[Serving]:
    """`chiasm serve`, and the unsplit engine, which gets `more_args`."""
    spec = EngineSpec("whole", Role.WHOLE, str(model_folder()), "model", "token", args=(*ENGINE_ARGS, *more_args))
    whole = Engine(spec, log=print)
    try:
        with running_cluster(folder, CONFIG + more_config) as serving:
            whole.wait_ready(START_TIMEOUT_S)
            serving.whole = whole
            yield serving
    finally:
        whole.stop()


@contextmanager
def running_cluster(folder: Path, config: str) -> Iterator[Serving]:
    """`chiasm serve` in a process of its own, ended by Ctrl-C."""
    (folder / "cluster.yaml").write_text(config)
    command = [Path(sys.executable).parent / "chiasm", "serve", "--config", folder / "cluster.yaml"]
    with running_command(command) as serving:
        yield serving


@contextmanager
def running_command(command: Sequence[str | Path], **env: str) -> Iterator[Serving]:
    """A command that serves, likewise; `env` is added to its environment."""
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
        env=os.environ | env,
    )
    serving = Serving(process)
    try:
        serving.wait_ready()
        yield serving
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGINT)  # what Ctrl-C in a terminal does
        try:
            assert process.wait(STOP_TIMEOUT_S) == 0, "".join(serving.lines)
        finally:
            process.kill()
            process.wait()
            assert process.stdout is not None
            process.stdout.close()
