"""A gateway that is being stopped: it takes nothing more, lets answers end for a while, and then ends them by name."""

import asyncio
import json

import pytest
from gateway_fakes import OPENING, USAGE, Cluster, chat_body, chunk, events, hangs, replies_stream

import chiasm.gateway.app


async def test_what_is_being_answered_goes_on_and_nothing_else_is_taken(cluster: Cluster) -> None:
    rest = asyncio.Event()
    begun, ended = events(OPENING, chunk("he"), done=False), events(chunk("llo"), USAGE)
    cluster.decoders[0].behaviours = [replies_stream(begun, then=rest, last=ended)]
    async with (
        asyncio.timeout(20),
        cluster.client.post("/v1/chat/completions", json=chat_body(stream=True)) as answer,
    ):
        await answer.content.readany()
        draining = asyncio.create_task(cluster.drain(1000))
        await asyncio.sleep(0)
        async with cluster.client.get("/ready") as ready:
            assert (ready.status, (await ready.json())["error"]["code"]) == (503, "stopping")
            assert ready.headers["Connection"] == "close"  # the next request may then come to another gateway
        async with cluster.client.get("/health") as health:
            assert health.status == 200
        status, body, _ = await cluster.chat(chat_body())
        assert (status, body["error"]["code"]) == (503, "stopping")
        assert not draining.done()
        rest.set()
        said = await answer.read()
        assert b"llo" in said
        assert b"error" not in said
        assert said.endswith(b"data: [DONE]\n\n")
        await draining


async def test_a_stream_that_takes_longer_ends_in_an_error_event(cluster: Cluster) -> None:
    cluster.decoders[0].behaviours = [replies_stream(events(OPENING, chunk("he"), done=False), then=asyncio.Event())]
    async with (
        asyncio.timeout(20),
        cluster.client.post("/v1/chat/completions", json=chat_body(stream=True)) as answer,
    ):
        await answer.content.readany()
        await cluster.drain(0)
        *_, error, done = (await answer.read()).strip().split(b"\n\n")
    assert json.loads(error.partition(b"data: ")[2])["error"]["code"] == "stopping"
    assert done == b"data: [DONE]"
    assert 'chiasm_requests_total{outcome="stopping"} 1.0' in await cluster.metrics()


async def test_an_answer_that_has_not_begun_by_then_is_an_error(cluster: Cluster) -> None:
    seen = asyncio.Event()
    cluster.decoders[0].behaviours = [hangs(seen)]
    async with asyncio.timeout(20):
        asking = asyncio.create_task(cluster.chat(chat_body()))
        await seen.wait()
        await cluster.drain(0)
        status, body, _ = await asking
    assert (status, body["error"]["code"]) == (503, "stopping")


async def test_an_idle_gateway_is_through_at_once(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chiasm.gateway.app, "LINGER_S", 0.0)
    await cluster.chat(chat_body())
    async with asyncio.timeout(20):
        await cluster.drain(1000)


async def test_whoever_was_answered_last_can_still_be_told(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chiasm.gateway.app, "LINGER_S", 1000.0)
    async with asyncio.timeout(20):
        await cluster.chat(chat_body())
        draining = asyncio.create_task(cluster.drain(2000))
        status, body, _ = await cluster.chat(chat_body())
        assert (status, body["error"]["code"]) == (503, "stopping")
        assert not draining.done()
        draining.cancel()
