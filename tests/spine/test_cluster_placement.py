"""How a machine's cores are dealt out, and what is said of workers while they start."""

from dataclasses import asdict
from types import SimpleNamespace
from typing import Any

import pytest
import ray

import chiasm.cluster
from chiasm.cluster import NO_ANSWER, Cluster, Member, MemberProgress, share_cores
from chiasm.config import ClusterConfig, EncodersConfig, PoolConfig, SchedulerConfig, WholesConfig
from chiasm.supervisor import Progress


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


def lines(reports: list[MemberProgress]) -> list[tuple[str, str]]:
    return [(report.name, report.stage) for report in reports]


def test_each_engine_of_a_worker_has_a_line_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    def answer(said: Any) -> Any:
        if isinstance(said, Exception):
            raise said
        return said

    monkeypatch.setattr(ray, "get", answer)
    made: list[str] = []
    member = Member("encoder-0", lambda: made.append("again"))
    waiting = "waiting for a place in the Ray cluster"
    assert lines(member.progress(None)) == [("encoder-0", waiting)]
    engines = {
        "encoder-0": Progress("ready", 9.0, ready=True, restarts=0, error=None),
        "encoder-0-text": Progress("loading weights", 8.0, ready=False, restarts=0, error=None),
    }
    said = {name: asdict(progress) for name, progress in engines.items()}
    assert lines(member.progress(said)) == [("encoder-0", "ready"), ("encoder-0-text", "loading weights")]
    assert lines(member.progress(None)) == [("encoder-0", NO_ANSWER), ("encoder-0-text", NO_ANSWER)]
    [encode, text] = member.progress(ray.exceptions.RayActorError())
    assert (encode.stage, text.stage, text.ready) == ("being restarted by Ray", "being restarted by Ray", False)
    assert made == ["again"]


def test_a_worker_that_ray_gives_up_is_made_again(monkeypatch: pytest.MonkeyPatch) -> None:
    def answer(_said: Any) -> Any:
        raise ray.exceptions.ActorDiedError

    handles = iter(("first", "second", ValueError("Ray has one of that name"), "third"))
    killed: list[str] = []

    def make() -> Any:
        if isinstance(handle := next(handles), Exception):
            raise handle
        return handle

    monkeypatch.setattr(ray, "get", answer)
    monkeypatch.setattr(ray, "kill", killed.append)
    monkeypatch.setattr(chiasm.cluster, "REMADE_S", 1000.0)
    member = Member("encoder-0", make)
    [told] = member.progress("an answer")
    assert (told.stage, told.restarts, member.handle) == ("could not be made", 0, "first")  # not as often as one looks
    monkeypatch.setattr(chiasm.cluster, "REMADE_S", 0.0)
    seen = []
    for _ in range(3):
        [told] = member.progress("an answer")
        seen.append((member.handle, told.restarts))
    assert seen == [("second", 1), ("second", 1), ("third", 2)]
    assert killed == ["first", "second", "second"]


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
