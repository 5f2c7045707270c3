"""Where Ray puts workers: several raylets with labels and cards that only count, and engines that only look it."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import standin_workers
from in_pod import FACTS
from raylets import SETTLED_S, Raylets, raylets, until

import chiasm.cluster
from chiasm.client import get_json
from chiasm.cluster import Cluster, gpus_by_name, ray_session
from chiasm.config import ClusterConfig, GatewayConfig, SchedulerConfig
from chiasm.pools import EncodersConfig, PoolConfig

pytestmark = [pytest.mark.engine, pytest.mark.timeout(400)]

GROUP = "ray.io/node-group"
CARDS = {"encoder": ("GeForce-RTX-4090", 2), "decoder": ("A100", 3)}


@pytest.fixture(scope="module")
def fleet() -> Iterator[Raylets]:
    """A head without cards, where gateway and scheduler go, and a node for each group."""
    with raylets() as fleet:
        fleet.add("head")
        for group, (card, count) in CARDS.items():
            fleet.add(group, num_gpus=count, labels={GROUP: group, "ray.io/accelerator-type": card})
        with ray_session(fleet.address, verbose=False):
            yield fleet


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


def warnings(cluster: Cluster) -> dict[str, str]:
    """What its endpoint says of workers that are not where they belong."""
    status = get_json(cluster.url, "/v1/chiasm/status")
    return {worker["worker"]: worker["fallback"] for worker in status["workers"] if worker["fallback"]}


def pool(group: str, *fallbacks: dict[str, str]) -> dict[str, Any]:
    return {"gpus": 1, "labels": {GROUP: group}, "fallbacks": list(fallbacks)}


def test_ray_says_what_cards_there_are(fleet: Raylets) -> None:
    assert gpus_by_name() == {"GeForce-RTX-4090": 2, "A100": 3}


def test_every_worker_lands_on_its_group_and_moves_when_that_is_lost(fleet: Raylets) -> None:
    encoders = EncodersConfig(count=2, **pool("encoder", {GROUP: "spare"}, {GROUP: "decoder"}))
    config = configured(encoders, PoolConfig(count=1, **pool("decoder")))
    with running(config) as cluster:
        cluster.wait_ready(lambda _: None)
        placed = {"encoder-0": "encoder", "encoder-1": "encoder", "decoder-0": "decoder"}
        assert fleet.whereabouts() == placed | {"scheduler": "head", "gateway": "head"}
        assert warnings(cluster) == {}

        fleet.lose("encoder")
        until(lambda: warnings(cluster).keys() == {"encoder-0", "encoder-1"})
        assert fleet.whereabouts() == dict.fromkeys(placed, "decoder") | {"scheduler": "head", "gateway": "head"}
        text = (
            "no node with ray.io/node-group=encoder could take it, so it runs on a node with "
            "ray.io/node-group=decoder: a fallback of its pool"
        )
        assert set(warnings(cluster).values()) == {text}
        said = {member.name: member.fallback for member in cluster.progress()}
        assert said == {"encoder-0": text, "encoder-1": text, "decoder-0": ""}


def test_a_fallback_takes_nobody_s_place(fleet: Raylets) -> None:
    """The encoders' group is missing from the start, and there are cards for one of the two beside the decoders."""
    encoders = EncodersConfig(count=2, **pool("encoder", {}))
    config = configured(encoders, PoolConfig(count=2, **pool("decoder")))
    with running(config) as cluster:
        until(lambda: len(fleet.whereabouts()) == 5)
        until(lambda: len(warnings(cluster)) == 1)
        assert {"decoder-0", "decoder-1"} < fleet.whereabouts().keys()
        [text] = warnings(cluster).values()
        assert "so it runs on any node" in text
        waiting = [member.name for member in cluster.progress() if "waiting for a place" in member.stage]
        assert len(waiting) == 1
        assert waiting[0].startswith("encoder")
