"""The gaps between the deliveries of a stream, whoever generates it: what the objective is about."""

import asyncio
import time
from types import SimpleNamespace

import pytest
from gateway_fakes import OPENING, USAGE, Cluster, chat_body, chunk, events, generates, replies_stream
from prometheus_client.parser import text_string_to_metric_families
from text_engine import CHAT, TextEngine, tokens_of

from chiasm.gateway import timing
from chiasm.messages import Decode, Return, Returned, Submit
from chiasm.nouns import Role, WorkerId

BODY = chat_body(stream=True, max_tokens=50, temperature=0)
TEXT = "a red circle"


class Clock:
    """The clock by which the gateway measures, which can be put forward."""

    def __init__(self) -> None:
        self.ahead = 0.0

    def monotonic(self) -> float:
        return time.monotonic() + self.ahead


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(timing, "time", SimpleNamespace(monotonic=clock.monotonic))
    return clock


async def gaps(cluster: Cluster, longer_than: float = 0.0) -> int:
    """How many there have been."""
    families = text_string_to_metric_families(await cluster.metrics())
    [gaps] = [family for family in families if family.name == "chiasm_stream_gap_seconds"]
    counts = {float(one.labels["le"]): one.value for one in gaps.samples if one.name.endswith("_bucket")}
    return int(counts[float("inf")] - counts.get(longer_than, 0.0))


async def test_the_gap_in_which_a_stream_moves_to_another_engine_is_one(cluster: Cluster, clock: Clock) -> None:
    scheduler = cluster.scheduler
    scheduler.role = Role.TEXT
    cluster.decoders[0].behaviours = [generates(TextEngine(tokens_of(TEXT)), 3, then=asyncio.Event())]
    cluster.decoders[1].behaviours = [generates(TextEngine(tokens_of(TEXT)))]
    async with asyncio.timeout(20):
        answer = await cluster.client.post(CHAT, json=BODY)
        for _ in range(3):
            await answer.content.readuntil(b"\n\n")
        [submit] = scheduler.of(Submit)
        scheduler.push(Return(submit.request, WorkerId("decoder-0")))
        await scheduler.wait_for(Returned)
        clock.ahead += 7.0
        scheduler.push(Decode(submit.request, WorkerId("decoder-1"), Role.TEXT, cluster.decoders[1].url, ()))
        assert (await answer.read()).endswith(events())
    assert await gaps(cluster, longer_than=5.0) == await gaps(cluster, longer_than=1.0) == 1


async def test_what_is_delivered_without_a_token_ends_none(cluster: Cluster, clock: Clock) -> None:
    more = asyncio.Event()
    begun = events(OPENING, chunk("a"), done=False)
    cluster.decoders[0].behaviours = [replies_stream(begun, then=more, last=events(USAGE))]
    async with asyncio.timeout(20):
        answer = await cluster.client.post(CHAT, json=BODY)
        await answer.content.readexactly(len(begun))
        clock.ahead += 7.0
        more.set()
        await answer.read()
    assert await gaps(cluster) == 0


async def test_an_answer_that_is_no_stream_has_none(cluster: Cluster) -> None:
    await cluster.chat(chat_body())
    assert await gaps(cluster) == 0
