"""Gateway and scheduler over real sockets, while either comes and goes. The engines and their workers are played."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientSession
from gateway_fakes import (
    FACTS,
    OPENING,
    PATIENCE_S,
    TOKEN,
    USAGE,
    FakeEngine,
    answers,
    chat_body,
    chunk,
    data_url,
    encodes,
    events,
    hangs,
    png,
    replies_stream,
    running,
)

from chiasm.config import ClusterConfig, GatewayConfig
from chiasm.gateway.app import make_app, start_gateway
from chiasm.gateway.link import SchedulerLink
from chiasm.messages import Heartbeat, Register, Unknown
from chiasm.nouns import Role, WorkerId
from chiasm.wire.channel import ChannelClient
from chiasm.wire.keys import ClusterKeys
from scheduler.actor import Scheduler

pytestmark = pytest.mark.slow

HEARTBEAT_S = 0.02
CONFIG = ClusterConfig.model_validate(
    {
        "gateway": {"port": 0},
        "scheduler": {"look_ahead": 0, "heartbeat_s": HEARTBEAT_S, "heartbeat_timeout_s": 3.0},
    }
)


class Served:
    """An encoder and a decoder of one slot each, a scheduler, and as many gateways as are asked for."""

    def __init__(self, folder: Path) -> None:
        self._endpoint = f"ipc://{folder}/scheduler"
        self._keys = ClusterKeys.generate()
        self.encoder, self.decoder = FakeEngine(encodes), FakeEngine(answers)
        self.start_scheduler()

    def start_scheduler(self) -> None:
        self.scheduler = Scheduler(self._endpoint, CONFIG, self._keys)
        self.scheduler.endpoint()

    async def stop_scheduler(self) -> None:
        await asyncio.to_thread(self.scheduler.stop)

    @asynccontextmanager
    async def worker(self, name: str, role: Role, engine: FakeEngine) -> AsyncIterator[None]:
        register = Register(WorkerId(name), role, "n", engine.url, 1, 0 if role is Role.ENCODER else 10_000, 100.0)
        channel = ChannelClient(self._endpoint)
        registrations = 1

        async def beat() -> None:
            while True:
                channel.send(Heartbeat(register.worker, registrations))
                await asyncio.sleep(HEARTBEAT_S)

        async def answer() -> None:
            nonlocal registrations
            while True:
                unknown = await channel.receive()
                if isinstance(unknown, Unknown) and unknown.registrations == registrations:
                    registrations += 1
                    channel.send(register)

        tasks = [asyncio.create_task(beat()), asyncio.create_task(answer())]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
            channel.close()

    @asynccontextmanager
    async def gateway(self) -> AsyncIterator["Client"]:
        """A gateway and its clients. When it is left, the gateway falls silent, with all that is under way."""
        channel = ChannelClient(self._endpoint)
        link = SchedulerLink(channel, HEARTBEAT_S)
        runner = await start_gateway(make_app(FACTS, CONFIG.gateway, link, TOKEN), GatewayConfig(port=0))
        try:
            async with ClientSession(f"http://127.0.0.1:{runner.addresses[0][1]}") as session:
                yield Client(session, channel)
        finally:
            channel.close()  # first, so that the scheduler does not hear of the end
            await runner.cleanup()


class Client:
    def __init__(self, session: ClientSession, channel: ChannelClient) -> None:
        self._session = session
        self._channel = channel

    async def ask(self, body: Any) -> tuple[int, bytes]:
        async with self._session.post("/v1/chat/completions", json=body) as answer:
            return answer.status, await answer.read()

    async def status(self) -> dict[str, Any]:
        """None while the scheduler is away."""
        async with self._session.get("/v1/chiasm/status") as answer:
            found: dict[str, Any] = await answer.json()
            return found

    async def until(self, **counts: int) -> None:
        """The scheduler has so many requests in each state."""
        async with asyncio.timeout(PATIENCE_S):
            while not counts.items() <= (await self.status()).items():
                pass


@pytest.fixture
async def served(tmp_path: Path) -> AsyncIterator[Served]:
    served = Served(tmp_path)
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(running(served.encoder, served.decoder))
        await stack.enter_async_context(served.worker("encoder-0", Role.ENCODER, served.encoder))
        await stack.enter_async_context(served.worker("decoder-0", Role.DECODER, served.decoder))
        yield served
    await served.stop_scheduler()


async def test_a_scheduler_that_is_started_again_costs_no_request(served: Served) -> None:
    """One generates, one is encoded, one waits for the decoder, and one comes while there is no scheduler."""
    seen, rest = asyncio.Event(), asyncio.Event()
    tail = events(chunk("llo"), USAGE)
    served.decoder.behaviours = [replies_stream(events(OPENING, chunk("he"), done=False), then=rest, last=tail)]
    served.encoder.behaviours = [hangs(seen)]
    async with served.gateway() as client, asyncio.timeout(3 * PATIENCE_S), asyncio.TaskGroup() as group:
        generating = group.create_task(client.ask(chat_body(stream=True)))
        await client.until(decoding=1)
        encoding = group.create_task(client.ask(chat_body(data_url(png()))))
        waiting = group.create_task(client.ask(chat_body()))
        await seen.wait()
        await client.until(encoding=1, withheld=1)
        await served.stop_scheduler()
        late = group.create_task(client.ask(chat_body()))
        await asyncio.sleep(5 * HEARTBEAT_S)  # so that heartbeats queue up, and are answered one by one
        served.start_scheduler()
        for task in (encoding, waiting, late):
            status, content = await task
            assert (status, b"hello" in content) == (200, True)
        assert served.encoder.aborted.is_set()
        assert not generating.done()
        rest.set()
        status, content = await generating
        assert (status, content.count(b'"llo"'), content.count(b"[DONE]")) == (200, 1, 1)
        await client.until(encoding=0, withheld=0, decoding=0)
        assert (await client.status())["counters"]["workers_lost"] == 0
    assert (len(served.encoder.calls), len(served.decoder.calls)) == (2, 4)


async def test_what_a_gateway_held_that_died_goes_to_those_that_live(served: Served) -> None:
    seen = asyncio.Event()
    served.decoder.behaviours = [hangs(seen)]
    async with served.gateway() as client, asyncio.timeout(3 * PATIENCE_S):
        async with served.gateway() as dying:
            held = asyncio.create_task(dying.ask(chat_body()))
            await seen.wait()
            waiting = asyncio.create_task(client.ask(chat_body()))
            await client.until(decoding=1, withheld=1)
        assert (await waiting)[0] == 200
        await client.until(decoding=0)
        held.cancel()
