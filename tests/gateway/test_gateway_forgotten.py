"""The scheduler has forgotten the gateway: each request goes on from where it is, and ends once all the same."""

import asyncio
from typing import Any

import pytest
from aiohttp import web
from gateway_fakes import (
    OPENING,
    Cluster,
    answers,
    chat_body,
    chunk,
    data_url,
    events,
    generates,
    hangs,
    png,
    replies,
    replies_stream,
)
from test_gateway_returns import BODY, TEXT, Moves
from text_engine import CHAT, TextEngine, tokens_of, told

from chiasm.messages import Cancel, DecodeDone, DecodeFailed, EncodeDone, Forgotten, Join, Reject, RejectReason, Submit

FORGOTTEN = Forgotten(joins=1)


def fails_later(then: asyncio.Event, status: int) -> Any:
    async def behaviour(request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        await then.wait()
        return await replies(status, {"error": {"message": "it broke"}})(request, body)

    return behaviour


async def once_it_knows(cluster: Cluster) -> None:
    """The gateway has heard that it is forgotten, and all its requests have."""
    await cluster.scheduler.wait_for(Join, 2)


async def test_what_waits_is_submitted_again(cluster: Cluster) -> None:
    cluster.scheduler.decide = lambda _message: []
    asking = asyncio.create_task(cluster.chat(chat_body()))
    await cluster.scheduler.wait_for(Submit)
    cluster.scheduler.decide = cluster.scheduler.usual
    cluster.scheduler.push(FORGOTTEN, FORGOTTEN)  # as an answer to each of two heartbeats
    status, _, _ = await asking
    assert status == 200
    first, again = cluster.scheduler.of(Submit)
    assert first.request == again.request
    assert first.deadline_s > again.deadline_s > 0
    joined, anew = cluster.scheduler.presence
    assert joined == anew


async def test_what_is_being_encoded_is_encoded_anew(cluster: Cluster) -> None:
    """The engine is told to stop: nobody would hear of what it makes."""
    seen = asyncio.Event()
    cluster.encoders[0].behaviours = [hangs(seen)]
    asking = asyncio.create_task(cluster.chat(chat_body(data_url(png()))))
    await seen.wait()
    cluster.scheduler.push(FORGOTTEN)
    assert (await asking)[0] == 200
    assert cluster.encoders[0].aborted.is_set()
    assert [type(message) for message in cluster.scheduler.sent] == [Submit, Submit, EncodeDone, DecodeDone]


@pytest.mark.parametrize("stream", [False, True])
async def test_what_is_being_decoded_goes_on(cluster: Cluster, stream: bool) -> None:
    rest, seen = asyncio.Event(), asyncio.Event()

    async def slowly(request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        seen.set()
        await rest.wait()
        return await answers(request, body)

    cluster.decoders[0].behaviours = [slowly]
    asking = asyncio.create_task(cluster.stream(chat_body()) if stream else cluster.chat(chat_body()))
    await seen.wait()
    cluster.scheduler.push(FORGOTTEN)
    await once_it_knows(cluster)
    rest.set()
    assert (await asking)[0] == 200
    assert [type(message) for message in cluster.scheduler.sent] == [Submit, DecodeDone]
    assert len(cluster.decoders[0].calls) == 1


async def test_what_fails_later_is_submitted_again(cluster: Cluster) -> None:
    """To nobody else would its failure say anything."""
    rest, seen = asyncio.Event(), asyncio.Event()

    async def failing(request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        seen.set()
        return await fails_later(rest, 503)(request, body)

    cluster.decoders[0].behaviours = [failing]
    asking = asyncio.create_task(cluster.chat(chat_body()))
    await seen.wait()
    cluster.scheduler.push(FORGOTTEN)
    await once_it_knows(cluster)
    rest.set()
    assert (await asking)[0] == 200
    assert [type(message) for message in cluster.scheduler.sent] == [Submit, Submit, DecodeDone]


async def test_what_had_failed_before_is_submitted_again(cluster: Cluster) -> None:
    """The report of its failure went down with the scheduler."""

    def decide(message: Any) -> list[Any]:
        return [] if isinstance(message, DecodeFailed) else cluster.scheduler.usual(message)

    cluster.scheduler.decide = decide
    cluster.decoders[0].behaviours = [replies(503, {"error": {"message": "it broke"}})]
    asking = asyncio.create_task(cluster.chat(chat_body()))
    await cluster.scheduler.wait_for(DecodeFailed)
    cluster.scheduler.push(FORGOTTEN)
    assert (await asking)[0] == 200
    assert [type(message) for message in cluster.scheduler.sent] == [Submit, DecodeFailed, Submit, DecodeDone]


async def test_what_no_retry_mends_ends_with_its_name(cluster: Cluster) -> None:
    """The scheduler that would have rejected it knows nothing of it."""
    rest, seen = asyncio.Event(), asyncio.Event()

    async def failing(request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        seen.set()
        return await fails_later(rest, 403)(request, body)

    cluster.decoders[0].behaviours = [failing]
    asking = asyncio.create_task(cluster.chat(chat_body()))
    await seen.wait()
    cluster.scheduler.push(FORGOTTEN)
    await once_it_knows(cluster)
    cluster.scheduler.decide = lambda _message: []
    rest.set()
    status, error, _ = await asyncio.wait_for(asking, 10)
    assert (status, error["error"]["code"]) == (502, "decode_failed")


async def test_a_stream_that_breaks_later_ends_with_an_error(cluster: Cluster) -> None:
    rest = asyncio.Event()
    cluster.decoders[0].behaviours = [
        replies_stream(events(OPENING, chunk("he"), done=False), then=rest, cut=True),
    ]
    async with cluster.client.post(CHAT, json=chat_body(stream=True)) as answer:
        await answer.content.readuntil(b"\n\n")
        cluster.scheduler.push(FORGOTTEN)
        await once_it_knows(cluster)
        rest.set()
        got = await answer.read()
    assert got.count(b"event: error") == 1
    assert len(cluster.scheduler.of(Submit)) == 1


async def test_a_stolen_stream_that_breaks_later_goes_on_elsewhere(cluster: Cluster) -> None:
    Moves(cluster, cluster.decoders[0], cluster.decoders[1])
    rest = asyncio.Event()
    cluster.decoders[0].behaviours = [generates(TextEngine(tokens_of(TEXT)), 4, cut=True, then=rest)]
    cluster.decoders[1].behaviours = [generates(TextEngine(tokens_of(TEXT)))]
    answer = await cluster.client.post(CHAT, json=BODY)
    got = b"".join([await answer.content.readuntil(b"\n\n") for _ in range(4)])
    cluster.scheduler.push(FORGOTTEN)
    await once_it_knows(cluster)
    rest.set()
    assert told(got + await answer.read())["text"] == TEXT
    first, again = cluster.scheduler.of(Submit)
    delivered = first.output_tokens - again.output_tokens
    assert 0 < delivered <= 4
    assert again.text_tokens - first.text_tokens == delivered
    assert (first.stealable, again.stealable) == (True, False)
    assert cluster.scheduler.of(DecodeFailed) == []


async def test_what_the_next_scheduler_rejects_ends_there(cluster: Cluster) -> None:
    cluster.scheduler.decide = lambda _message: []
    asking = asyncio.create_task(cluster.chat(chat_body()))
    submit = await cluster.scheduler.wait_for(Submit)
    cluster.scheduler.push(FORGOTTEN)
    await cluster.scheduler.wait_for(Submit, 2)
    cluster.scheduler.push(Reject(submit.request, RejectReason.NO_WORKER, "none"))
    assert (await asking)[0] == 503
    assert cluster.scheduler.of(Cancel) == []
