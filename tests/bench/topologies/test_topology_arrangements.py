"""Arrangements, started for real but for vLLM and Ray: how each engine is started, and who answers."""

import json
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn

import psutil
import pytest

from bench.load.asking import Endpoint
from bench.topologies import arrangements, calibration, chiasm_cluster
from bench.topologies.arrangement import Arrangement
from bench.topologies.arrangements import EmbeddingsLost, calibrate, starting, starting_all
from bench.topologies.program import NotServing
from bench.topologies.resources import NotEnough
from bench.topologies.running import Remote, Running
from bench.topologies.setting import KV_CACHE_BYTES, Setting
from bench.topologies.turns import in_turns
from chiasm.calibration import Step
from chiasm.calibration_cache import cache_folder
from chiasm.client import EndpointError, post_json
from chiasm.config import ClusterConfig

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="arrangements take two cores"),
]

IMAGE = {"type": "image_url", "image_url": {"url": "data:image/jpeg;base64,AA"}}
READY = """
import http.server, sys

class Handler(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        self.send_response(200 if self.headers["Authorization"] else 401)
        self.end_headers()
        self.wfile.write(open(sys.argv[1], "rb").read())

    def log_message(self, *arguments):
        pass

server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
print(f"ready: http://127.0.0.1:{server.server_port}/v1   (model: model)", flush=True)
server.serve_forever()
"""


def ask(endpoint: Endpoint, *parts: Any) -> dict[str, Any]:
    body = {"model": endpoint.model, "messages": [{"role": "user", "content": list(parts)}]}
    answer: dict[str, Any] = post_json(endpoint.url, "/v1/chat/completions", body, endpoint.key)[0]
    return answer


def last(told: Mapping[str, Any], flag: str) -> str | None:
    """The value that counts of a flag."""
    values = [argument.partition("=")[2] for argument in told["argv"] if argument.startswith(f"{flag}=")]
    return values[-1] if values else None


def test_mono_is_vllms_own_on_all_cores(setting: Setting) -> None:
    with starting(Arrangement.MONO, setting) as running:
        running.wait_ready()
        told = ask(running.endpoint, "Hello")
        with pytest.raises(EndpointError, match="401"):
            ask(replace(running.endpoint, key="wrong"), "Hello")
    assert told["cores"] == sorted(int(core) for core in setting.cores)
    assert told["env"]["VLLM_CPU_OMP_THREADS_BIND"] == setting.all_cores
    assert last(told, "--kv-cache-memory-bytes") == str(KV_CACHE_BYTES)
    assert last(told, "--max-num-seqs") == "16"
    assert last(told, "--max-num-batched-tokens") is None
    assert running.chunks == []
    ours = [argument for argument in told["argv"] if "chiasm" in argument.lower()]
    assert ours == []
    assert "CHIASM_RUNTIME" not in told["env"]
    assert "chiasm" not in told["env"]["VLLM_PLUGINS"]


def test_two_replicas_share_cores_and_cache_and_are_both_asked(setting: Setting) -> None:
    with starting(Arrangement.MONO_X2, setting) as running:
        running.wait_ready()
        told = [ask(running.endpoint, "Hello") for _ in range(2)]
    assert sorted(one["cores"] for one in told) == [[int(core)] for core in setting.cores]
    assert {last(one, "--kv-cache-memory-bytes") for one in told} == {str(KV_CACHE_BYTES // 2)}
    assert {last(one, "--max-num-seqs") for one in told} == {"8"}


def test_calibrated_ones_are_measured_once_and_bounded(setting: Setting, tmp_path: Path) -> None:
    with starting(Arrangement.MONO_X2_CALIBRATED, setting) as running:
        running.wait_ready()
        told = ask(running.endpoint, "Hello")
    # A step of that server takes 2 ms whatever is in it, so the largest chunk that was measured is taken.
    assert running.chunks == [2016, 2016]
    assert last(told, "--long-prefill-token-threshold") == "2016"
    assert last(told, "--max-num-batched-tokens") == "2020"  # beside four streams, the most of eight slots
    [kept] = (tmp_path / "cache" / "chiasm" / "steps").iterdir()
    measured = json.loads(kept.read_text())
    assert measured["conditions"]["cores"] == 1
    with starting(Arrangement.MONO_X2_CALIBRATED, replace(setting, itl_slo_ms=1e-9)) as running:
        running.wait_ready()
        assert last(ask(running.endpoint, "Hello"), "--long-prefill-token-threshold") == "16"


def test_vllms_disaggregation_encodes_on_one_core_and_answers_on_the_other(setting: Setting) -> None:
    with starting(Arrangement.VLLM_EPD, setting) as running:
        running.wait_ready()
        told = ask(running.endpoint, IMAGE)
        config = json.loads(told["argv"][told["argv"].index("--ec-transfer-config") + 1])
        folder = Path(config["ec_connector_extra_config"]["shared_storage_path"])
        assert folder.is_dir()
    assert told["cores"] == [int(setting.cores[1])]
    assert (config["ec_connector"], config["ec_role"]) == ("ECExampleConnector", "ec_consumer")
    [reference] = told["content"]
    assert (reference["type"], reference["image_embeds"]) == ("image_embeds", {"image_grid_thw": [1, 4, 4]})
    assert not folder.exists()


def test_a_disaggregation_that_lost_embeddings_is_no_baseline(
    setting: Setting, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bench.topologies.running.Disaggregated.retries", lambda _self: 2)
    with pytest.raises(EmbeddingsLost, match="ask 2 times more"), starting(Arrangement.VLLM_EPD, setting) as running:
        running.wait_ready()


def test_a_loss_is_told_of_what_is_interrupted_too(setting: Setting, monkeypatch: pytest.MonkeyPatch) -> None:
    """A journal has what was measured until then."""
    monkeypatch.setattr("bench.topologies.running.Disaggregated.retries", lambda _self: 2)

    def interrupted(running: Running) -> NoReturn:
        running.wait_ready()
        raise KeyboardInterrupt

    with pytest.raises(EmbeddingsLost), starting(Arrangement.VLLM_EPD, setting) as running:
        interrupted(running)


def test_who_is_not_asked_is_stopped_and_its_guards_are_not(setting: Setting) -> None:
    both = (Arrangement.MONO_X2, Arrangement.VLLM_EPD)
    with starting_all(both, setting) as running:
        for one in running.values():
            one.wait_ready()
        processes = {name: one.processes() for name, one in running.items()}
        assert [len(found) for found in processes.values()] == [2, 2]
        with in_turns(running) as wake:
            for name, other in (both, both[::-1]):
                assert ask(wake[name](), "Hello")
                assert all(process.status() != psutil.STATUS_STOPPED for process in processes[name])
                assert all(process.status() == psutil.STATUS_STOPPED for process in processes[other])
        assert not any(process.status() == psutil.STATUS_STOPPED for found in processes.values() for process in found)
    assert not any(process.is_running() for found in processes.values() for process in found)


@pytest.mark.parametrize("arrangement", [Arrangement.MONO, Arrangement.MONO_X2, Arrangement.VLLM_EPD])
def test_one_that_does_not_start_tells_why(setting: Setting, arrangement: Arrangement) -> None:
    broken = replace(setting, engine_args=(*setting.engine_args, "--fail"))
    with starting(arrangement, broken) as running, pytest.raises(NotServing, match="no such flag"):
        running.wait_ready()


def test_several_are_up_together_and_do_not_collide(setting: Setting) -> None:
    with starting_all([Arrangement.MONO, Arrangement.MONO_X2, Arrangement.VLLM_EPD], setting) as running:
        for one in running.values():
            one.wait_ready()
        endpoints = [one.endpoint for one in running.values()]
        assert all(ask(endpoint, "Hello") for endpoint in endpoints)
    assert len({endpoint.url for endpoint in endpoints}) == 3
    assert len({endpoint.key for endpoint in endpoints}) == 3


def test_none_is_started_where_memory_does_not_suffice(setting: Setting, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bench.topologies.resources.ENGINE_BYTES", 1 << 60)
    before = len(psutil.Process().children(recursive=True))
    with pytest.raises(NotEnough), starting(Arrangement.MONO, setting):
        raise AssertionError
    assert len(psutil.Process().children(recursive=True)) == before


@pytest.mark.parametrize("arrangement", [Arrangement.SPLIT, Arrangement.SPLIT_STEAL])
def test_a_cluster_is_served_as_configured(
    setting: Setting, arrangement: Arrangement, monkeypatch: pytest.MonkeyPatch
) -> None:
    def command(config: Mapping[str, Any], folder: Path) -> list[str]:
        file = folder / "config.json"
        file.write_text(json.dumps(config))
        return [sys.executable, "-c", READY, str(file)]

    monkeypatch.setattr(chiasm_cluster, "serve_command", command)
    monkeypatch.setattr(arrangements, "keep_steps", lambda config, _steps: ClusterConfig.model_validate(config))
    monkeypatch.setattr(calibration, "measured", lambda *_: (Step(4, 64, 0.1),))
    with starting(arrangement, replace(setting, itl_slo_ms=150)) as running:
        running.wait_ready()
        assert running.chunks == [64]
        config = ClusterConfig.model_validate(ask(running.endpoint, "Hello"))
    steals = arrangement is Arrangement.SPLIT_STEAL
    assert config.scheduler.stealing == ("yield" if steals else "off")
    assert config.scheduler.itl_slo_ms == 150.0
    assert config.scheduler.prefill_chunk is None
    assert config.encoders.cpus == [setting.cores[0]]
    assert config.decoders.cpus == [setting.cores[1]]
    shared = setting.shared(2 if steals else 1)
    assert tuple(config.decoders.engine_args) == tuple(config.text_engine_args) == shared
    assert running.endpoint.key in config.gateway.api_keys


def test_a_clusters_decoder_is_measured_alone_before_anything_is_started(
    setting: Setting, monkeypatch: pytest.MonkeyPatch
) -> None:
    ready = [sys.executable, "-c", READY, str(setting.model / "model.safetensors")]
    done: list[str] = []

    def measured(_setting: Setting, cpus: str, args: tuple[str, ...]) -> tuple[Step, ...]:
        done.append(f"measured {cpus} {' '.join(args)}")
        return (Step(4, 64, 0.1),)

    def command(_config: Mapping[str, Any], _folder: Path) -> list[str]:
        done.append("started")
        return ready

    monkeypatch.setattr(calibration, "measured", measured)
    monkeypatch.setattr(chiasm_cluster, "serve_command", command)
    monkeypatch.setattr(arrangements, "keep_steps", lambda _config, steps: done.append(f"kept {len(steps)}"))
    both = [Arrangement.SPLIT, Arrangement.SPLIT_STEAL]
    with starting_all(both, setting) as running:
        for one in running.values():
            one.wait_ready()
        assert [one.chunks for one in running.values()] == [[64], [64]]
    whole, half = (f"measured {setting.cores[1]} {' '.join(setting.shared(engines))}" for engines in (1, 2))
    assert done == [whole, "kept 1", half, "kept 1", "started", "started"]


def test_the_client_has_the_cores_of_the_setting_and_no_others(
    setting: Setting, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = os.sched_getaffinity(0)
    others = replace(setting, cores=(setting.cores[1], setting.cores[0]))
    monkeypatch.setattr(Setting, "all_cores", setting.cores[1])  # fewer than there are on two cores, too
    with starting(Arrangement.MONO, others):
        assert os.sched_getaffinity(0) == {int(setting.cores[1])}
    assert os.sched_getaffinity(0) == before


@pytest.mark.parametrize("pace", [1, 3])
def test_a_replica_on_slower_cores_is_measured_as_slow_as_it_will_be(
    setting: Setting, pace: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    slowed: list[tuple[str, float]] = []

    @contextmanager
    def slow(cores: str, share: float) -> Iterator[None]:
        slowed.append((cores, share))
        yield

    monkeypatch.setattr(calibration, "slowed", slow)
    uneven = replace(setting, pace=pace)
    calibrate(Arrangement.MONO_X2_CALIBRATED, uneven)
    assert slowed == ([] if pace == 1 else [(setting.cores[0], 1 / pace)])
    [*kept] = (cache_folder() or Path()).iterdir()
    assert len(kept) == (1 if pace == 1 else 2)  # on equal cores one is as good for both


def test_a_server_that_is_there_already_is_asked_and_stays(setting: Setting) -> None:
    with ExitStack() as stack:
        running = stack.enter_context(starting(Arrangement.MONO, setting))
        running.wait_ready()
        remote = Remote(running.endpoint.url + "/", running.endpoint.key)
        remote.wait_ready()
        assert remote.endpoint == running.endpoint
        assert ask(remote.endpoint, "Hello")["argv"]
    with pytest.raises(NotServing, match="Is it running"):
        remote.wait_ready()
