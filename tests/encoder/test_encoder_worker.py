"""Which engines an encoder worker has, with supervisors that only note what they are given."""

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

import chiasm.worker
from chiasm.config import ClusterConfig, GatewayConfig, SchedulerConfig
from chiasm.engine import EngineSpec
from chiasm.landing import Landing
from chiasm.membership import Membership
from chiasm.nouns import Role
from chiasm.pools import EncodersConfig, PoolConfig
from chiasm.preflight import ModelFacts
from chiasm.supervisor import Progress
from chiasm.wire.keys import ClusterKeys
from encoder.worker import EncoderWorker

FACTS = ModelFacts("m", "m", "A", "r", 784, (1, 4096), None, 4096, ("image_grid_thw",))


class FakeSupervisor:
    def __init__(self, spec: EngineSpec, *more: Any) -> None:
        self.spec = spec
        self.measure, self.card_of = more[3], more[5]
        self.left = self.rests = False
        self.progress = Progress("ready", 1.0, ready=True, restarts=0, error=None)
        self.stopped = False

    async def run(self) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            self.stopped = True

    def leave(self) -> None:
        self.left = True

    def at_rest(self) -> bool:
        return self.rests


@pytest.fixture
def supervisors(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[FakeSupervisor]]:
    made: list[FakeSupervisor] = []

    def make(*arguments: Any) -> FakeSupervisor:
        made.append(FakeSupervisor(*arguments))
        return made[-1]

    monkeypatch.setattr(chiasm.worker, "Supervisor", make)
    yield made
    assert all(supervisor.stopped for supervisor in made)


def worker(stealing: str) -> EncoderWorker:
    config = ClusterConfig(
        gateway=GatewayConfig(drain_s=30),
        scheduler=SchedulerConfig.model_validate({"stealing": stealing}),
        encoders=EncodersConfig(
            engine_args=["--max-num-seqs=1"], text_engine_args=["--max-num-seqs=3"], env={"HERE": "1"}
        ),
        decoders=PoolConfig(engine_args=["--enforce-eager"], env={"THERE": "1"}),
    )
    keys = ClusterKeys.generate()
    belongs = Membership(config, FACTS, "token", keys, "ipc:///nowhere", one_machine=True)
    return EncoderWorker("encoder-0", belongs, lambda: Landing("127.0.0.1", node="here"), "0-1")


def test_an_encoder_has_one_engine_where_nobody_steals(supervisors: list[FakeSupervisor]) -> None:
    encoder = worker("off")
    assert list(encoder.progress()) == ["encoder-0"]
    encoder.stop()


@pytest.mark.parametrize("stealing", ["yield", "share"])
def test_a_thief_is_a_second_engine_on_the_encoders_card(supervisors: list[FakeSupervisor], stealing: str) -> None:
    encoder = worker(stealing)
    assert list(encoder.progress()) == ["encoder-0", "encoder-0-text"]
    encode, text = (supervisor.spec for supervisor in supervisors)
    assert (encode.role, text.role) == (Role.ENCODER, Role.TEXT)
    assert encode.cpus == text.cpus == "0-1"
    assert encode.env == text.env == {"HERE": "1"}  # it is of the machine, not of the model
    assert encode.args == ("--max-num-seqs=1",)
    assert text.args == ("--enforce-eager", "--max-num-seqs=3")
    assert [supervisor.card_of for supervisor in supervisors] == ["", "encoder-0"]
    encoder.stop()


def test_a_thief_is_measured_as_a_decoder_is(supervisors: list[FakeSupervisor]) -> None:
    class Measured:
        def kv_cache_tokens(self) -> int:
            return 4000

    encoder = worker("yield")
    capacity = supervisors[1].measure(Measured())
    assert (capacity.slots, capacity.kv_tokens, capacity.store_bytes) == (3, 4000, 0)
    encoder.stop()


@pytest.mark.parametrize(("node", "seconds"), [("here", 30.0), (None, 30.0), ("elsewhere", None)])
def test_a_worker_leaves_with_both_its_engines_if_its_node_is_meant(
    supervisors: list[FakeSupervisor], node: str | None, seconds: float | None
) -> None:
    encoder = worker("yield")
    assert encoder.leave(node) == seconds
    assert [supervisor.left for supervisor in supervisors] == [seconds is not None] * 2
    encoder.stop()


def test_a_worker_is_at_rest_when_both_its_engines_are(supervisors: list[FakeSupervisor]) -> None:
    encoder = worker("yield")
    supervisors[0].rests = True
    assert not encoder.at_rest()
    supervisors[1].rests = True
    assert encoder.at_rest()
    encoder.stop()
