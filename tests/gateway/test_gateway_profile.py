"""`chiasm profile`, of a gateway between scripted engines."""

import asyncio
import gzip
import json
import signal
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from aiohttp import web
from click.testing import CliRunner, Result
from gateway_fakes import Cluster, FakeEngine, chat_body, data_url, png

from chiasm.cli import main
from chiasm.gateway import asking
from chiasm.messages import AskStatus, WorkerStatus
from chiasm.nouns import Role, WorkerId
from chiasm.telemetry.records import EngineRecords

pytestmark = pytest.mark.slow

Run = Callable[..., Awaitable[Result]]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "trace.json"


@pytest.fixture
def run(cluster: Cluster, file: Path) -> Run:
    cluster.scheduler.workers = (
        status_of(cluster.decoders[0], "decoder-0", Role.DECODER),
        status_of(cluster.encoders[0], "encoder-0", Role.ENCODER),
    )

    def run(*arguments: str) -> Awaitable[Result]:
        command = ["profile", "--endpoint", cluster.url, "-o", str(file), "--seconds", "0.1", *arguments]
        return asyncio.to_thread(CliRunner().invoke, main, command)

    return run


def status_of(engine: FakeEngine, name: str, role: Role) -> WorkerStatus:
    return WorkerStatus(WorkerId(name), role, "node-a", engine.url, 1, 2, 8, 4096, 1.0, 0)


def read(file: Path) -> dict[str, Any]:
    content = file.read_bytes()
    trace: dict[str, Any] = json.loads(gzip.decompress(content) if file.suffix == ".gz" else content)
    return trace


def names_in(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()]


def slices(trace: dict[str, Any]) -> set[tuple[str, str]]:
    """Processes, and the names of what they have."""
    events = trace["traceEvents"]
    names = {event["pid"]: event["args"]["name"] for event in events if event["name"] == "process_name"}
    return {(names[event["pid"]], event["name"]) for event in events if event["ph"] == "X"}


async def test_what_happens_meanwhile_is_written_for_perfetto(cluster: Cluster, run: Run, file: Path) -> None:
    recording = asyncio.create_task(run("--seconds", "2"))
    await cluster.scheduler.wait_for(AskStatus, 2)  # the first is asked before the recording begins
    status, _, _ = await cluster.chat(chat_body(data_url(png())))
    assert status == 200
    result = await recording
    assert result.exit_code == 0, result.output
    assert "2 workers, 1 requests, 2 engine calls" in result.output
    assert "ui.perfetto.dev" in result.output
    trace = read(file)
    assert {("gateway", "request"), ("encoder-0", "encode"), ("decoder-0", "decode")} <= slices(trace)
    counted = {name for event in trace["traceEvents"] if event["ph"] == "C" for name in event["args"]}
    assert counted == {"encoding", "withheld", "decoding", "encoder-0", "decoder-0"}
    assert names_in(file.parent) == ["trace.json"]


async def test_what_was_before_is_not_in_it(cluster: Cluster, run: Run, file: Path) -> None:
    await cluster.chat(chat_body(data_url(png())))
    assert "0 requests" in (await run()).output
    assert slices(read(file)) == set()


async def test_a_name_that_ends_in_gz_makes_a_compressed_file(run: Run, file: Path) -> None:
    packed = file.with_name("trace.json.gz")
    result = await run("-o", str(packed))
    assert result.exit_code == 0, result.output
    assert read(packed)["metadata"]["workers"].keys() == {"encoder-0", "decoder-0"}


async def test_interrupted_it_writes_what_there_is(cluster: Cluster, file: Path) -> None:
    command = ["profile", "--endpoint", cluster.url, "--seconds", "600", "-o", str(file)]
    program = "from chiasm.cli import main; main()"
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", program, *command), stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    assert process.stdout is not None
    assert b"Ctrl-C ends it early" in await process.stdout.readline()  # it takes its seconds to start
    await cluster.scheduler.wait_for(AskStatus, 2)
    process.send_signal(signal.SIGINT)
    output, _ = await process.communicate()
    assert process.returncode == 0, output
    assert f"wrote {file}" in output.decode()
    assert read(file)["traceEvents"]


async def test_what_is_missing_is_named_with_the_reason(cluster: Cluster, run: Run) -> None:
    async def forgetful(_request: web.Request) -> web.Response:
        now = time.time()
        return web.Response(body=msgspec.json.encode(EngineRecords(now, whole_since=now)))

    async def refuses(_request: web.Request) -> web.Response:
        raise web.HTTPNotFound

    cluster.encoders[0].tells, cluster.decoders[0].tells = forgetful, refuses
    output = (await run()).output
    assert "missing: decoder-0 did not tell what it did: HTTP 404" in output
    assert "missing: encoder-0 has forgotten some of what ended in the first" in output
    assert "missing: steps: no engine did any" in output


async def test_an_endpoint_that_does_not_answer_is_named_before_anything_is_waited_for(file: Path) -> None:
    command = ["profile", "--endpoint", "http://127.0.0.1:9", "--seconds", "600", "-o", str(file)]
    result = await asyncio.to_thread(CliRunner().invoke, main, command)
    assert result.exit_code == 1
    assert "no answer from http://127.0.0.1:9" in result.output
    assert names_in(file.parent) == []


async def test_a_file_that_cannot_be_written_is_named_before_anything_is_waited_for(run: Run, file: Path) -> None:
    result = await run("--seconds", "600", "-o", str(file / "deeper.json"))
    assert result.exit_code == 1
    assert "deeper.json" in result.output


async def test_a_file_that_is_there_stays_if_there_is_no_new_one(
    cluster: Cluster, run: Run, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await run()
    before = read(file)
    monkeypatch.setattr(asking, "TIMEOUT_S", 0.05)
    cluster.scheduler.decide = lambda message: []
    assert (await run()).exit_code == 1
    assert read(file) == before


@pytest.mark.usefixtures("run")  # it has the scheduler know workers
async def test_kv_caches_are_told_of_without_a_recording(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    command = ["profile", "--endpoint", cluster.url, "--kv"]
    result = await asyncio.to_thread(CliRunner().invoke, main, command)
    assert result.exit_code == 0, result.output
    assert "decoder-0 is left out" in result.output  # a scripted engine, which has none
    assert names_in(tmp_path) == []
