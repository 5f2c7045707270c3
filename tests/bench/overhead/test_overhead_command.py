import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from played_engine import PlayedEngine, playing

import bench.overhead.clusters
import bench.overhead.run
from bench.cli import bench as command
from bench.load.asking import Endpoint
from bench.overhead.clusters import LARGE_ARGS, bench_model, built_in
from bench.overhead.plan import Traffic
from bench.overhead.run import CLUSTERS
from bench.overhead.ways import Ways
from chiasm.config import ClusterConfig

pytestmark = pytest.mark.slow

TEXT = {"added_ttft_p50_ms", "added_per_token_ms", "added_per_token_mean_ms"}
IMAGES = {f"image_{name}" for name in TEXT}


@contextmanager
def cluster(role: str) -> Iterator[tuple[PlayedEngine, PlayedEngine]]:
    """A gateway that names the played engine, and a process that has the engine's token in its environment."""
    with playing(PlayedEngine(key="secret")) as engine, playing(PlayedEngine()) as gateway:
        gateway.workers += [{"worker": "only", "role": role, "url": engine.url, "slots": 2}]
        waiting = [sys.executable, "-c", "import sys; print(flush=True); sys.stdin.read()"]
        named = ["-m", "vllm.entrypoints.openai.api_server", "--port", engine.url.rpartition(":")[2]]
        pipe = subprocess.PIPE
        environment = os.environ | {"VLLM_API_KEY": "secret"}
        with subprocess.Popen([*waiting, *named], stdin=pipe, stdout=pipe, env=environment) as process:
            assert process.stdout is not None
            process.stdout.readline()
            yield gateway, engine
            process.communicate()


@pytest.mark.parametrize(("role", "images"), [("decoder", set[str]()), ("whole", IMAGES)])
def test_a_running_cluster_is_measured_as_it_is(tmp_path: Path, role: str, images: set[str]) -> None:
    file = tmp_path / "overhead.json"
    with cluster(role) as (gateway, engine):
        options = ["--quick", "--endpoint", gateway.url, "--json", str(file)]
        result = CliRunner().invoke(command, ["overhead", *options])
    assert result.exit_code == 0, result.output
    assert len(gateway.asked) == len(engine.asked)
    report = json.loads(file.read_text())
    assert (report["name"], report["command"]) == (
        "overhead",
        f"chiasm bench overhead --quick --endpoint {gateway.url}",
    )
    assert set(report["headline"]) == TEXT | {"throughput_vs_direct"} | images
    for name in report["headline"]:
        assert re.search(rf"^{name} +-?[\d.]+ \(", result.output, re.MULTILINE)
    blocks = {(row["traffic"], row["block"]) for row in report["series"]}
    assert {("text", 1), ("text", 2), ("text", 3), ("burst", 3), ("burst", "all")} <= blocks


def test_without_an_endpoint_two_clusters_are_asked_in_turn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[Mapping[str, Any]] = []

    @contextmanager
    def running(_name: str, config: Mapping[str, Any]) -> Iterator[Ways]:
        started.append(config)
        with playing(PlayedEngine()) as gateway, playing(PlayedEngine()) as engine:
            yield Ways(Endpoint(gateway.url, "played"), Endpoint(engine.url, "played"), slots=2, images=True)
            for way in (gateway, engine):
                with_pictures = ["image_url" in json.dumps(body["messages"]) for body in way.asked]
                assert any(with_pictures) == ("model" not in config)
                assert not all(with_pictures)

    monkeypatch.setattr(bench.overhead.run, "running", running)
    monkeypatch.setattr(bench.overhead.clusters, "first_two_cores", lambda: ("0", "1"))
    monkeypatch.setattr(bench.overhead.clusters, "build_bench_model", lambda: tmp_path)
    file = tmp_path / "overhead.json"
    result = CliRunner().invoke(command, ["overhead", "--quick", "--json", str(file)])
    assert result.exit_code == 0, result.output
    assert started == [built_in(), bench_model()]
    assert [kinds for _, _, kinds in CLUSTERS] == [
        (Traffic.TEXT, Traffic.IMAGES, Traffic.SMALL_BURST),
        (Traffic.BURST,),
    ]
    ratios = {"throughput_vs_direct", "small_model_throughput_vs_direct"}
    assert set(json.loads(file.read_text())["headline"]) == TEXT | IMAGES | ratios


def test_the_clusters_are_what_chiasm_serve_takes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench.overhead.clusters, "first_two_cores", lambda: ("0", "1"))
    monkeypatch.setattr(bench.overhead.clusters, "build_bench_model", lambda: tmp_path)
    small, large = (ClusterConfig.model_validate(make()) for make in (built_in, bench_model))
    assert (small.model, large.model) == (None, str(tmp_path))
    for cluster_config in (small, large):
        assert [pool.count for pool in (cluster_config.encoders, cluster_config.decoders)] == [0, 0]
        assert cluster_config.wholes.cpus == ["1"]  # the first is for all that is no engine
    assert large.whole_engine_args == list(LARGE_ARGS)


@pytest.mark.parametrize(
    ("workers", "said"),
    [([], "Cure: a cluster of one decoder"), ([{"worker": "only", "role": "decoder"}], "Cure: run")],
)
def test_what_cannot_be_compared_is_said(workers: list[dict[str, Any]], said: str) -> None:
    placed = [worker | {"url": "http://127.0.0.1:1", "slots": 2} for worker in workers]
    with playing(PlayedEngine(workers=placed)) as gateway:
        result = CliRunner().invoke(command, ["overhead", "--endpoint", gateway.url])
    assert result.exit_code == 1
    assert said in result.output


def test_without_all_answers_nothing_is_reported(tmp_path: Path) -> None:
    file = tmp_path / "overhead.json"
    with cluster("decoder") as (gateway, engine):
        engine.missing = 1
        options = ["--quick", "--endpoint", gateway.url, "--json", str(file)]
        result = CliRunner().invoke(command, ["overhead", *options])
    assert result.exit_code == 1
    assert "Nothing is reported" in result.output
    assert not file.exists()
