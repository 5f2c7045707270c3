"""The scheduler's process, asked by peers over real sockets: who hears what of the core's decisions."""

import asyncio
import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from core_driver import embedding, register

from chiasm.config import ClusterConfig, SchedulerConfig
from chiasm.messages import (
    AskStatus,
    Decode,
    Encode,
    EncodeDone,
    Heartbeat,
    Pause,
    Register,
    Resume,
    Status,
    Submit,
    Unknown,
)
from chiasm.nouns import Item, ItemUuid, RequestId, Role, WorkerId
from chiasm.wire.channel import ChannelClient
from chiasm.wire.keys import ClusterKeys
from scheduler.actor import Scheduler

PATIENCE_S = 20.0
THIEF = register("encoder-0-text", Role.TEXT, slots=4, kv=10_000, host="encoder-0")


class Peers:
    """A gateway, an encoder with a thief on its card, and a decoder with one slot."""

    def __init__(self, scheduler: Scheduler) -> None:
        endpoint = scheduler.endpoint()
        self.gateway, self.thief, self.others = (ChannelClient(endpoint) for _ in range(3))

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

    def submit(self, request: str, *items: str, stealable: bool = False) -> None:
        asked = tuple(Item(ItemUuid(item), "image", 100) for item in items)
        self.gateway.send(Submit(RequestId(request), asked, 10, 50, 60.0, stealable=stealable))

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

    def close(self) -> None:
        for channel in (self.gateway, self.thief, self.others):
            channel.close()


def encoded(request: str, item: str) -> EncodeDone:
    return EncodeDone(RequestId(request), WorkerId("encoder-0"), embedding(item, "encoder-0"), 0.1)


@pytest.fixture
def scheduler(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Scheduler]:
    settings = {"look_ahead": 0, "stealing": getattr(request, "param", "yield"), "itl_slo_ms": 1e6}
    config = ClusterConfig(scheduler=SchedulerConfig.model_validate(settings))
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


@pytest.mark.parametrize("scheduler", ["off"], indirect=True)
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
