"""The scheduler's process, asked by peers over real sockets: who hears what of the core's decisions."""

import asyncio
import itertools
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from core_driver import embedding, register

from chiasm.config import ClusterConfig, SchedulerConfig
from chiasm.messages import (
    Alive,
    AskStatus,
    Decode,
    Encode,
    EncodeDone,
    Forgotten,
    Heartbeat,
    Join,
    Pause,
    Register,
    Resume,
    Status,
    Submit,
    Unknown,
)
from chiasm.nouns import GatewayId, Item, ItemUuid, RequestId, Role, WorkerId
from chiasm.wire.channel import ChannelClient
from chiasm.wire.keys import ClusterKeys
from scheduler.actor import Scheduler

pytestmark = pytest.mark.slow

PATIENCE_S = 20.0
THIEF = register("encoder-0-text", Role.TEXT, slots=4, kv=10_000, host="encoder-0")


class Peers:
    """A gateway, an encoder with a thief on its card, and a decoder with one slot."""

    def __init__(self, scheduler: Scheduler) -> None:
        endpoint = scheduler.endpoint()
        self.gateway, self.other_gateway, self.thief, self.others = (ChannelClient(endpoint) for _ in range(4))
        self.gateway.send(Join(GatewayId("first")))

    async def meet(self) -> None:
        """All workers register, and the decoder gets something to do."""
        self.others.send(register("encoder-0", Role.ENCODER))
        self.others.send(register("decoder-0", Role.DECODER, slots=1, kv=10_000))
        await self.known(2)
        await self.introduce(THIEF)
        self.submit("running")
        assert (await self.heard(self.gateway, Decode)).worker == "decoder-0"

    async def introduce(self, thief: Register) -> None:
        self.thief.send(thief)
        await self.known(3)

    def submit(self, request: str, *items: str, stealable: bool = False, gateway: ChannelClient | None = None) -> None:
        asked = tuple(Item(ItemUuid(item), "image", 100) for item in items)
        (gateway or self.gateway).send(Submit(RequestId(request), asked, 10, 50, 60.0, stealable=stealable))

    async def heard(self, who: ChannelClient, kind: type) -> Any:
        async with asyncio.timeout(PATIENCE_S):
            while not isinstance(message := await who.receive(), kind):
                pass
        return message

    async def status(self) -> Status:
        self.gateway.send(AskStatus(RequestId("status")))
        status: Status = await self.heard(self.gateway, Status)
        return status

    async def known(self, workers: int) -> None:
        """The scheduler knows so many workers."""
        while len((await self.status()).workers) != workers:
            pass

    @asynccontextmanager
    async def living(self) -> AsyncIterator[None]:
        """All but the first gateway say that they live."""
        beating = asyncio.create_task(self._beat())
        yield
        beating.cancel()

    async def _beat(self) -> None:
        while True:
            for worker in ("encoder-0", "decoder-0"):
                self.others.send(Heartbeat(WorkerId(worker)))
            self.other_gateway.send(Alive(1))
            await asyncio.sleep(0.02)

    def close(self) -> None:
        for channel in (self.gateway, self.other_gateway, self.thief, self.others):
            channel.close()


def encoded(request: str, item: str) -> EncodeDone:
    return EncodeDone(RequestId(request), WorkerId("encoder-0"), embedding(item, "encoder-0"), 0.1)


@pytest.fixture
def scheduler(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Scheduler]:
    settings = {"look_ahead": 0, "stealing": "yield", "itl_slo_ms": 1e6}
    config = ClusterConfig(scheduler=SchedulerConfig.model_validate(settings | getattr(request, "param", {})))
    scheduler = Scheduler(f"ipc://{tmp_path}/scheduler", config, ClusterKeys.generate())
    yield scheduler
    scheduler.stop()


@pytest.fixture
async def peers(scheduler: Scheduler) -> Any:
    peers = Peers(scheduler)
    yield peers
    peers.close()


async def test_a_thief_hears_that_it_is_to_pause_and_to_go_on(peers: Peers) -> None:
    await peers.meet()
    peers.submit("text", stealable=True)
    assert (await peers.heard(peers.gateway, Decode)).worker == "encoder-0-text"
    peers.submit("image", "a")
    assert (await peers.heard(peers.gateway, Encode)).worker == "encoder-0"
    assert await peers.heard(peers.thief, Pause | Resume) == Pause(WorkerId("encoder-0-text"))
    peers.gateway.send(encoded("image", "a"))
    assert await peers.heard(peers.thief, Pause | Resume) == Resume(WorkerId("encoder-0-text"))


@pytest.mark.parametrize("scheduler", [{"stealing": "off"}], indirect=True)
async def test_nobody_steals_where_it_is_off(peers: Peers) -> None:
    await peers.meet()
    peers.submit("text", stealable=True)
    assert (await peers.status()).counters["stolen"] == 0


async def test_a_thief_that_cannot_be_told_is_given_up_until_it_is_heard_of(peers: Peers) -> None:
    """Else the scheduler would think that it is held, or that it goes on, and the thief would not know of it."""
    await peers.meet()
    peers.submit("text", stealable=True)
    await peers.heard(peers.gateway, Decode)
    peers.thief.close()
    for item in map(str, itertools.count()):  # until the scheduler's socket has noticed that it is closed
        peers.submit(f"image-{item}", item)
        await peers.heard(peers.gateway, Encode)
        peers.gateway.send(encoded(f"image-{item}", item))
        if len((await peers.status()).workers) == 2:
            break
    peers.thief = ChannelClient(peers.others.endpoint)
    peers.thief.send(Heartbeat(WorkerId("encoder-0-text")))
    assert await peers.heard(peers.thief, Unknown) == Unknown(WorkerId("encoder-0-text"))
    await peers.introduce(THIEF)


@pytest.mark.parametrize("scheduler", [{"heartbeat_s": 0.02, "heartbeat_timeout_s": 2.0}], indirect=True)
async def test_what_a_dead_gateway_held_is_free_when_it_has_been_silent_long_enough(peers: Peers) -> None:
    """Nothing is sent to it meanwhile that could fail: it held all credits."""
    peers.other_gateway.send(Join(GatewayId("second")))
    async with peers.living():
        await peers.meet()
        peers.submit("waiting", gateway=peers.other_gateway)
        peers.submit("encoding", "a")
        await peers.heard(peers.gateway, Encode)
        peers.gateway.close()
        peers.submit("waiting too", "b", gateway=peers.other_gateway)
        heard = [await peers.heard(peers.other_gateway, Decode | Encode) for _ in range(2)]
        assert {(type(one), one.request) for one in heard} == {(Decode, "waiting"), (Encode, "waiting too")}
        peers.gateway = ChannelClient(peers.others.endpoint)
        status = await peers.status()
    assert (status.decoding, status.encoding, status.withheld) == (1, 1, 0)


async def test_what_a_gateway_held_is_free_when_it_joins_by_another_connection(peers: Peers) -> None:
    """Something may have been lost with the old one, so all that it has submitted comes again."""
    await peers.meet()
    peers.submit("waiting")
    anew = ChannelClient(peers.gateway.endpoint)
    try:
        anew.send(Join(GatewayId("first")))
        peers.submit("waiting", gateway=anew)
        assert (await peers.heard(anew, Decode)).request == "waiting"
    finally:
        anew.close()


async def test_nothing_is_taken_of_a_gateway_that_has_not_joined_and_it_is_told_so(peers: Peers) -> None:
    await peers.meet()
    peers.submit("image", "a", gateway=peers.other_gateway)
    peers.other_gateway.send(Alive(7))
    async with asyncio.timeout(PATIENCE_S):
        assert await peers.other_gateway.receive() == Forgotten(7)
    status = await peers.status()
    assert (status.counters["submitted"], status.decoding, status.encoding) == (1, 1, 0)


async def test_a_gateway_that_has_joined_hears_nothing_of_it(peers: Peers) -> None:
    peers.gateway.send(Alive(1))
    peers.gateway.send(AskStatus(RequestId("status")))
    async with asyncio.timeout(PATIENCE_S):
        assert isinstance(await peers.gateway.receive(), Status)


def test_one_that_cannot_listen_again_ends_so_that_another_is_made() -> None:
    """In its first life whoever made it hears of the failure; later nobody asks."""
    code = """
import time
from chiasm.config import ClusterConfig
from chiasm.wire.keys import ClusterKeys
from scheduler.actor import Scheduler
Scheduler("ipc:///nowhere/scheduler", ClusterConfig(), ClusterKeys.generate(), another_life=lambda: True)
time.sleep(30)
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=25, check=False)
    assert run.returncode == 1
    assert "scheduler ended" in run.stderr
