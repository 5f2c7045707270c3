"""In which order a cluster stops."""

from types import SimpleNamespace
from typing import Any

import pytest
import ray

from chiasm.cluster import Cluster
from chiasm.config import ClusterConfig
from chiasm.member import Member


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
