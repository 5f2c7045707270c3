"""A timeline asked for in an answer comes last: whatever happens while engines are asked, the answer stands."""

import asyncio
import json
from typing import Any

import pytest
from aiohttp import web
from gateway_fakes import Cluster, a_cluster, chat_body, chunk, events, generates, replies_stream
from text_engine import CHAT, PROMPT, TextEngine, tokens_of, told

from chiasm.gateway.views.profiling import Profiling
from chiasm.messages import Cancel, Decode, DecodeDone, Return, Returned, Submit, WorkerStatus
from chiasm.nouns import Role, WorkerId

pytestmark = pytest.mark.slow

ASKING = {"X-Chiasm-Timeline": "true"}
BODY = chat_body(stream=True, max_tokens=50, temperature=0, stream_options={"include_usage": True})
TEXT = "a red circle, é"


class Hanging:
    """An engine that was asked what it remembers and does not say."""

    def __init__(self, cluster: Cluster, role: Role) -> None:
        self.asked, self.go_on = asyncio.Event(), asyncio.Event()
        engine = cluster.decoders[0]
        cluster.scheduler.role = role
        cluster.scheduler.workers = (WorkerStatus(WorkerId("decoder-0"), role, "n", engine.url, 0, 0, 1, 0, 1.0, 0),)
        engine.tells = self._hang

    async def _hang(self, _request: web.Request) -> web.Response:
        self.asked.set()
        await self.go_on.wait()
        raise web.HTTPNotFound


def without_timeline(answer: bytes) -> bytes:
    """The stream as it would be had nobody asked for one; it has to have one."""
    *before, own, done, rest = answer.split(b"\n\n")
    assert "timeline" in json.loads(own.removeprefix(b"data: "))["chiasm"]
    return b"\n\n".join([*before, done, rest])


def one_chunk() -> bytes:
    whole = chunk("a", prompt_token_ids=PROMPT)
    whole["choices"][0] |= {"token_ids": [1], "finish_reason": "stop"}
    return events(whole)


async def count_of(cluster: Cluster, outcome: str) -> None:
    """Waits until one request has ended so."""
    while f'chiasm_requests_total{{outcome="{outcome}"}} 1.0' not in await cluster.metrics():
        pass


@pytest.mark.parametrize("crossing", [Return, Decode])
@pytest.mark.parametrize("pieces", [1, 3])
async def test_a_decision_that_crosses_the_end_takes_nothing_from_a_stream(
    cluster: Cluster, pieces: int, crossing: type
) -> None:
    hanging = Hanging(cluster, Role.TEXT)
    if pieces == 1:
        cluster.decoders[0].behaviours = [replies_stream(one_chunk())]
    else:
        cluster.decoders[0].behaviours = [generates(TextEngine(tokens_of(TEXT)))]
    async with asyncio.timeout(20):
        asking = asyncio.create_task(cluster.client.post(CHAT, json=BODY, headers=ASKING))
        await hanging.asked.wait()
        [submit] = cluster.scheduler.of(Submit)
        elsewhere = Decode(submit.request, WorkerId("decoder-1"), Role.TEXT, cluster.decoders[1].url, ())
        cluster.scheduler.push(elsewhere if crossing is Decode else Return(submit.request, WorkerId("decoder-0")))
        await cluster.metrics()  # a way there and back, by which that has been read
        hanging.go_on.set()
        answer = await asking
        got = without_timeline(await answer.read())
    assert answer.status == 200
    assert told(got)["text"] == ("a" if pieces == 1 else TEXT)
    assert got.endswith(events())
    assert cluster.decoders[1].calls == []
    assert cluster.scheduler.of(Returned) == cluster.scheduler.of(Cancel) == []
    assert len(cluster.scheduler.of(DecodeDone)) == 1
    await count_of(cluster, "answered")


@pytest.mark.parametrize("stream", [True, False])
async def test_the_scheduler_and_the_client_have_the_answer_before_engines_are_asked(
    cluster: Cluster, stream: bool
) -> None:
    hanging = Hanging(cluster, Role.DECODER)
    async with asyncio.timeout(20):
        asking = asyncio.create_task(cluster.client.post(CHAT, json=chat_body(stream=stream), headers=ASKING))
        await hanging.asked.wait()
        assert len(cluster.scheduler.of(DecodeDone)) == 1
        if stream:
            usage = b""
            while b"usage" not in usage:
                usage = await (await asking).content.readuntil(b"\n\n")
        hanging.go_on.set()
        assert b"timeline" in await (await asking).read()


@pytest.mark.parametrize("stream", [True, False])
async def test_a_deadline_meanwhile_costs_the_timeline_alone(stream: bool) -> None:
    async with a_cluster(request_timeout_s=1.0) as cluster, asyncio.timeout(20):
        Hanging(cluster, Role.DECODER)
        answer = await cluster.client.post(CHAT, json=chat_body(stream=stream), headers=ASKING)
        got = await answer.read()
        assert answer.status == 200
        assert got.endswith(events()) if stream else json.loads(got)["choices"]
        assert b"timeline" not in got
        await count_of(cluster, "answered")


@pytest.mark.parametrize("stream", [True, False])
async def test_a_timeline_that_cannot_be_made_is_left_out(
    cluster: Cluster, stream: bool, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def breaks(*_: Any) -> None:
        raise RuntimeError("an engine told nonsense")

    monkeypatch.setattr(Profiling, "_timeline", breaks)
    async with cluster.client.post(CHAT, json=chat_body(stream=stream), headers=ASKING) as answer:
        with_nothing = await answer.read()
    async with cluster.client.post(CHAT, json=chat_body(stream=stream)) as answer:
        assert await answer.read() == with_nothing
    assert "an engine told nonsense" in caplog.text


async def test_what_an_engine_says_behind_the_end_comes_behind_the_end(cluster: Cluster) -> None:
    pieces = [events(chunk("a")), b": a comment\n\n"]
    cluster.decoders[0].behaviours = [replies_stream(*pieces)]
    answer = await cluster.client.post(CHAT, json=chat_body(stream=True), headers=ASKING)
    told, own, done, *rest = (await answer.read()).split(b"\n\n")
    assert b"timeline" in own
    assert b"\n\n".join([told, done, *rest]) == b"".join(pieces)


async def test_a_client_that_leaves_meanwhile_has_its_answer(cluster: Cluster) -> None:
    hanging = Hanging(cluster, Role.DECODER)
    async with asyncio.timeout(20):
        answer = await cluster.client.post(CHAT, json=chat_body(stream=True), headers=ASKING)
        await hanging.asked.wait()
        answer.close()
        await count_of(cluster, "answered")
