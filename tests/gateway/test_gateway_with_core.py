"""The gateway and the scheduler's real core, with nothing between them but the link."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import ClientSession, web
from gateway_fakes import (
    ERROR,
    FACTS,
    HEARTBEAT_S,
    OPENING,
    TOKEN,
    CoreChannel,
    FakeEngine,
    answers,
    chat_body,
    data_url,
    encodes,
    events,
    png,
    replies,
    replies_stream,
    running,
)

from chiasm.config import GatewayConfig, SchedulerConfig
from chiasm.explain import SENTENCES, sentence
from chiasm.gateway.app import make_app, start_gateway
from chiasm.gateway.link import SchedulerLink
from chiasm.messages import Register
from chiasm.nouns import Role, WorkerId
from scheduler.core import Core


class Served:
    def __init__(self, channel: CoreChannel, encoder: FakeEngine, decoder: FakeEngine, client: ClientSession) -> None:
        self.channel = channel
        self.encoder = encoder
        self.decoder = decoder
        self.client = client

    async def post(self, body: Any) -> tuple[int, bytes]:
        async with self.client.post("/v1/chat/completions", json=body) as answer:
            return answer.status, await answer.read()


@pytest.fixture
async def served() -> AsyncIterator[Served]:
    encoder, decoder = FakeEngine(encodes), FakeEngine(answers)
    async with running(encoder, decoder):
        channel = CoreChannel(Core(SchedulerConfig(max_attempts=2)))
        channel.send(Register(WorkerId("encoder-0"), Role.ENCODER, "n", encoder.url, 4, 0, 1000.0))
        channel.send(Register(WorkerId("decoder-0"), Role.DECODER, "n", decoder.url, 4, 10_000, 100.0))
        config = GatewayConfig(port=0)
        runner = await start_gateway(make_app(FACTS, config, SchedulerLink(channel, HEARTBEAT_S), TOKEN), config)
        try:
            async with ClientSession(f"http://127.0.0.1:{runner.addresses[0][1]}") as client:
                yield Served(channel, encoder, decoder, client)
        finally:
            await runner.cleanup()
        status = channel.status
        assert (status.encoding, status.withheld, status.decoding) == (0, 0, 0)
        assert all(worker.running == worker.waiting == 0 for worker in status.workers)


@pytest.mark.parametrize("stream", [False, True])
async def test_requests_with_and_without_images_are_answered(served: Served, stream: bool) -> None:
    bodies = [chat_body(stream=stream), *(chat_body(data_url(png(color)), stream=stream) for color in ("red", "blue"))]
    for status, content in await asyncio.gather(*map(served.post, bodies * 3)):
        assert status == 200
        assert b"hello" in content or b"llo" in content
    assert len(served.encoder.calls) == 2  # each image once, however often it is asked about


@pytest.mark.parametrize("stream", [False, True])
async def test_a_lost_embedding_costs_the_client_nothing(served: Served, stream: bool) -> None:
    async def loses(request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        served.decoder.failures = [{"key": key, "code": "missing"} for key in body["ec_transfer_params"]["items"]]
        failing = replies_stream(events(OPENING, ERROR)) if stream else replies(500, ERROR)
        return await failing(request, body)

    served.decoder.behaviours = [loses]
    status, content = await served.post(chat_body(data_url(png()), stream=stream))
    assert status == 200
    assert b"error" not in content
    assert len(served.encoder.calls) == 2


@pytest.mark.parametrize(
    ("failing", "status"), [(replies(500, ERROR), 502), (replies(503, ERROR), 502), (replies(400, ERROR), 400)]
)
async def test_failures_end_the_request_on_both_sides(served: Served, failing: Any, status: int) -> None:
    served.decoder.usual = failing
    assert (await served.post(chat_body()))[0] == status


async def test_a_client_that_leaves_frees_the_slot(served: Served) -> None:
    seen = asyncio.Event()

    async def hangs(request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        seen.set()
        await asyncio.Event().wait()
        raise AssertionError

    served.decoder.behaviours = [hangs]
    asking = asyncio.create_task(served.post(chat_body()))
    async with asyncio.timeout(10):
        await seen.wait()
        assert served.channel.status.decoding == 1
        asking.cancel()
        await served.decoder.aborted.wait()
    assert served.channel.status.decoding == 0


async def test_every_decision_about_a_request_can_be_explained(served: Served) -> None:
    async with served.client.post("/v1/chat/completions", json=chat_body(data_url(png()))) as answer:
        request = answer.headers["X-Request-Id"]
    async with served.client.get(f"/v1/chiasm/requests/{request}/reasons") as answer:
        told = await answer.json()
    assert [reason["what"] for reason in told["reasons"]] == [
        *("admitted", "encode placed", "encode posted", "encoded", "decode posted", "ended")
    ]
    said = [sentence(reason) for reason in told["reasons"]]
    assert said[1].startswith("encoder-0 would have encoded")
    assert said[4].startswith("decoder-0 would be done first")
    assert said[5] == "done"
    assert {reason["what"] for reason in told["reasons"]} <= SENTENCES.keys()


async def test_of_a_request_that_is_not_known_nothing_is_explained(served: Served) -> None:
    async with served.client.get("/v1/chiasm/requests/nobody/reasons") as answer:
        assert answer.status == 404
        assert (await answer.json())["error"]["code"] == "unknown_request"
