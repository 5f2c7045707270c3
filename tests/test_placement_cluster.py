"""Where Ray puts workers: several raylets with labels and cards that only count, and engines that only look it."""

import os
import socket
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import ray
import standin_workers
from ray.cluster_utils import Cluster as Raylets

import chiasm.cluster
from chiasm.client import get_json
from chiasm.cluster import Cluster, gpus_by_name, ray_session
from chiasm.config import ClusterConfig, EncodersConfig, GatewayConfig, PoolConfig, SchedulerConfig
from chiasm.preflight import ModelFacts

pytestmark = [pytest.mark.engine, pytest.mark.timeout(400)]

FACTS = ModelFacts("m", "m", "A", "r", 784, (1, 4096), None, 4096, ("image_grid_thw",))
GROUP = "ray.io/node-group"
CARDS = {"encoder": ("GeForce-RTX-4090", 2), "decoder": ("A100", 3)}
SETTLED_S = 180.0


class Fleet:
    """A head without cards, where gateway and scheduler go, and a raylet for each group."""

    def __init__(self) -> None:
        self._raylets = Raylets()
        self._add({}, 0)
        self._groups = {group: self._add(*self._labelled(group)) for group in CARDS}
        self.address = self._raylets.address

    def _labelled(self, group: str) -> tuple[dict[str, str], int]:
        card, count = CARDS[group]
        return {GROUP: group, "ray.io/accelerator-type": card}, count

    def _add(self, labels: dict[str, str], gpus: int) -> Any:
        return self._raylets.add_node(
            num_cpus=2, num_gpus=gpus, labels=labels, include_dashboard=False, object_store_memory=80 << 20
        )

    def lose(self, group: str) -> None:
        self._raylets.remove_node(self._groups.pop(group), allow_graceful=False)

    def close(self) -> None:
        self._raylets.shutdown()


@pytest.fixture(scope="module")
def fleet() -> Iterator[Fleet]:
    own = os.pathsep.join(filter(None, [str(Path(__file__).parent), os.environ.get("PYTHONPATH")]))
    with tempfile.TemporaryDirectory(prefix="chiasm-") as folder, pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", own)  # where the raylets' workers find the stand-ins
        patch.setenv("TMPDIR", folder)  # where these keep their sockets, short enough for a socket's name
        fleet = Fleet()
        try:
            with ray_session(fleet.address, verbose=False):
                yield fleet
        finally:
            fleet.close()


@pytest.fixture(autouse=True)
def stand_ins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chiasm.cluster, "EncoderWorker", standin_workers.StandInEncoder)
    monkeypatch.setattr(chiasm.cluster, "DecoderWorker", standin_workers.StandInDecoder)


def configured(encoders: EncodersConfig, decoders: PoolConfig) -> ClusterConfig:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        scheduler = SchedulerConfig(port=free.getsockname()[1], prefill_chunk=0)
    return ClusterConfig(
        gateway=GatewayConfig(port=0),
        scheduler=scheduler,
        encoders=encoders,
        decoders=decoders,
        engine_start_timeout_s=SETTLED_S,
    )


@contextmanager
def running(config: ClusterConfig) -> Iterator[Cluster]:
    cluster = Cluster(config, FACTS, one_machine=False)
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.stop()


def groups() -> dict[str, str]:
    """The group on which each worker that has a place lives."""
    labels = {node["NodeID"]: node["Labels"].get(GROUP, "head") for node in ray.nodes()}
    actors = ray._private.state.actors().values()  # the public call asks a dashboard, of which there is none
    return {actor["Name"]: labels[actor["Address"]["NodeID"]] for actor in actors if actor["State"] == "ALIVE"}


def warnings(cluster: Cluster) -> dict[str, str]:
    """What its endpoint says of workers that are not where they belong."""
    status = get_json(cluster.url, "/v1/chiasm/status")
    return {worker["worker"]: worker["fallback"] for worker in status["workers"] if worker["fallback"]}


def until(happened: Callable[[], bool]) -> None:
    deadline = time.monotonic() + SETTLED_S
    while not happened():
        assert time.monotonic() < deadline
        time.sleep(0.5)


def pool(group: str, *fallbacks: dict[str, str]) -> dict[str, Any]:
    return {"gpus": 1, "labels": {GROUP: group}, "fallbacks": list(fallbacks)}


def test_ray_says_what_cards_there_are(fleet: Fleet) -> None:
    assert gpus_by_name() == {"GeForce-RTX-4090": 2, "A100": 3}


def test_every_worker_lands_on_its_group_and_moves_when_that_is_lost(fleet: Fleet) -> None:
    encoders = EncodersConfig(count=2, **pool("encoder", {GROUP: "spare"}, {GROUP: "decoder"}))
    config = configured(encoders, PoolConfig(count=1, **pool("decoder")))
    with running(config) as cluster:
        cluster.wait_ready(lambda _: None)
        placed = {"encoder-0": "encoder", "encoder-1": "encoder", "decoder-0": "decoder"}
        assert groups() == placed | {"scheduler": "head", "gateway": "head"}
        assert warnings(cluster) == {}

        fleet.lose("encoder")
        until(lambda: warnings(cluster).keys() == {"encoder-0", "encoder-1"})
        assert groups() == dict.fromkeys(placed, "decoder") | {"scheduler": "head", "gateway": "head"}
        text = (
            "no node with ray.io/node-group=encoder could take it, so it runs on a node with "
            "ray.io/node-group=decoder: a fallback of its pool"
        )
        assert set(warnings(cluster).values()) == {text}
        said = {member.name: member.fallback for member in cluster.progress()}
        assert said == {"encoder-0": text, "encoder-1": text, "decoder-0": ""}


def test_a_fallback_takes_nobody_s_place(fleet: Fleet) -> None:
    """The encoders' group is missing from the start, and there are cards for one of the two beside the decoders."""
    encoders = EncodersConfig(count=2, **pool("encoder", {}))
    config = configured(encoders, PoolConfig(count=2, **pool("decoder")))
    with running(config) as cluster:
        until(lambda: len(groups()) == 5)
        until(lambda: len(warnings(cluster)) == 1)
        assert {"decoder-0", "decoder-1"} < groups().keys()
        [text] = warnings(cluster).values()
        assert "so it runs on any node" in text
        waiting = [member.name for member in cluster.progress() if "waiting for a place" in member.stage]
        assert len(waiting) == 1
        assert waiting[0].startswith("encoder")
