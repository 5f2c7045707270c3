"""Exchanging the scheduler of a cluster whose engines live on. Engines are played; they register as real ones do."""

import asyncio
import secrets
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import bench.two_encoders
from bench.policies import RoundRobin
from bench.two_encoders import FAST, SLOW, TwoEncoders
from chiasm.client import get_json
from chiasm.config import ClusterConfig, GatewayConfig, SchedulerConfig
from chiasm.loop_thread import LoopThread
from chiasm.membership import Membership
from chiasm.messages import Heartbeat, Register, Unknown
from chiasm.nouns import Role, WorkerId
from chiasm.preflight import ModelFacts
from chiasm.wire.channel import ChannelClient
from chiasm.wire.keys import ClusterKeys

pytestmark = pytest.mark.slow

HEARTBEAT_S = 0.05


class PlayedWorker:
    """Registers, says that it lives, and registers again with whoever does not know it."""

    def __init__(self, name: str, membership: Membership, _address: Callable[[], str], cpus: str | None) -> None:
        role = Role.ENCODER if name in (FAST, SLOW) else Role.DECODER
        kv_tokens = 0 if role is Role.ENCODER else 1000
        self._register = Register(WorkerId(name), role, "node", f"http://{name}", 1, kv_tokens, 100.0)
        self._membership = membership
        self._loop = LoopThread(name, self._run)

    async def _run(self) -> None:
        channel = self._membership.connect()
        try:
            channel.send(self._register)
            async with asyncio.TaskGroup() as group:
                group.create_task(self._beat(channel))
                group.create_task(self._answer(channel))
        finally:
            channel.close()

    async def _beat(self, channel: ChannelClient) -> None:
        while True:
            await asyncio.sleep(HEARTBEAT_S)
            channel.send(Heartbeat(self._register.worker))

    async def _answer(self, channel: ChannelClient) -> None:
        while True:
            if isinstance(await channel.receive(), Unknown):
                channel.send(self._register)

    def stop(self) -> None:
        self._loop.stop(10.0)


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[TwoEncoders]:
    for name in ("EncoderWorker", "DecoderWorker", "Worker"):
        monkeypatch.setattr(bench.two_encoders, name, PlayedWorker)
    membership = Membership(
        config=ClusterConfig(gateway=GatewayConfig(port=0), scheduler=SchedulerConfig(heartbeat_s=HEARTBEAT_S)),
        facts=ModelFacts("model", "model", "Model", "r1", 784, (1, 1024), None, 2048, ("image_grid_thw",)),
        token=secrets.token_urlsafe(8),
        keys=ClusterKeys.generate(),
        scheduler=f"ipc://{tmp_path}/scheduler",
        one_machine=True,
    )
    cluster = TwoEncoders(membership)
    try:
        yield cluster
    finally:
        cluster.stop()


def test_each_new_scheduler_knows_all_engines_before_anything_is_sent(cluster: TwoEncoders) -> None:
    for _ in range(3):
        cluster.schedule_by(RoundRobin())
        status = get_json(cluster.url, "/v1/chiasm/status")
        assert {worker["worker"] for worker in status["workers"]} == {FAST, SLOW, "decoder-0"}
        assert status["ready"]
