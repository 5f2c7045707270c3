"""How a machine's cores are dealt out, and in which order a cluster stops."""

from types import SimpleNamespace
from typing import Any

import pytest
import ray

from chiasm.cluster import Cluster, share_cores
from chiasm.config import ClusterConfig, EncodersConfig, PoolConfig, SchedulerConfig, WholesConfig
from chiasm.member import Member


def config(encoders: EncodersConfig, decoders: PoolConfig) -> ClusterConfig:
    return ClusterConfig(encoders=encoders, decoders=decoders)


@pytest.fixture(autouse=True)
def four_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda _pid: {0, 1, 2, 3})


def test_cores_are_dealt_evenly_and_never_twice() -> None:
    assert share_cores(config(EncodersConfig(), PoolConfig())) == {"encoder-0": "0,1", "decoder-0": "2,3"}
    assert share_cores(config(EncodersConfig(count=2), PoolConfig())) == {
        "encoder-0": "0",
        "encoder-1": "1",
        "decoder-0": "2",
    }


def test_nobody_is_bound_where_cores_do_not_suffice() -> None:
    assert share_cores(config(EncodersConfig(count=4), PoolConfig())) == {}


def test_workers_with_gpus_or_cores_of_their_own_get_none() -> None:
    assert share_cores(config(EncodersConfig(gpus=1), PoolConfig())) == {"decoder-0": "0,1,2,3"}
    assert share_cores(config(EncodersConfig(cpus=["0"]), PoolConfig())) == {"decoder-0": "0,1,2,3"}


def test_a_thief_has_its_encoders_cores() -> None:
    stealing = config(EncodersConfig(), PoolConfig()).model_copy(
        update={"scheduler": SchedulerConfig(stealing="yield")}
    )
    assert share_cores(stealing) == {"encoder-0": "0,1", "decoder-0": "2,3"}


def test_a_whole_worker_has_cores_of_its_own() -> None:
    beside = ClusterConfig(wholes=WholesConfig(count=2))
    cores = {"encoder-0": "0", "decoder-0": "1", "whole-0": "2", "whole-1": "3"}
    assert share_cores(beside) == cores


def test_the_gateway_stops_before_what_its_answers_need(monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[str] = []

    def handle(name: str) -> Any:
        return SimpleNamespace(stop=SimpleNamespace(remote=lambda: done.append(name)))

    monkeypatch.setattr(ray.util, "get_node_ip_address", lambda: "127.0.0.1")
    monkeypatch.setattr(ray, "wait", lambda _told, **_: done.append("waited"))
    monkeypatch.setattr(ray, "kill", lambda _handle: None)
    cluster = Cluster(ClusterConfig(), SimpleNamespace(), one_machine=True)  # type: ignore[arg-type]
    cluster.members = [Member("decoder-0", lambda: handle("decoder-0"), engines=("decoder-0",))]
    cluster._gateway, cluster._scheduler = handle("gateway"), handle("scheduler")
    cluster.stop()
    assert done == ["gateway", "waited", "decoder-0", "scheduler", "waited"]
