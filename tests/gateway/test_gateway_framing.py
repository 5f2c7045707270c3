"""How a stream is framed: what chat clients and load generators read from it besides its text."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import openai
import pytest
from aiohttp import ClientResponse, web
from gateway_fakes import ERROR, OPENING, USAGE, Cluster, chat_body, chunk, events, replies_stream

from chiasm.gateway.sse import named_errors

pytestmark = pytest.mark.slow

DONE = b"data: [DONE]\n\n"
WITHOUT_TEXT = {**chunk(""), "choices": [{"index": 0, "delta": {"content": ""}, "finish_reason": None}]}


def event(payload: dict[str, Any]) -> bytes:
    return events(payload, done=False)


async def http_chunks(answer: ClientResponse) -> AsyncIterator[bytes]:
    """The body as the gateway wrote it: one block for each of its writes."""
    block = b""
    async for data, complete in answer.content.iter_chunks():
        block += data
        if complete:
            yield block
            block = b""


async def test_a_stream_says_that_it_is_one_and_that_nobody_may_hold_it_back(cluster: Cluster) -> None:
    body = chat_body(stream=True)
    asked = {"Accept-Encoding": "gzip, deflate, br"}
    async with cluster.client.post("/v1/chat/completions", json=body, headers=asked) as answer:
        assert await answer.read()
        headers = answer.headers
    assert headers["Content-Type"].startswith("text/event-stream")
    assert headers["Cache-Control"] == "no-cache"
    assert headers["X-Accel-Buffering"] == "no"
    assert headers["Transfer-Encoding"] == "chunked"
    assert "Content-Encoding" not in headers
    assert "Content-Length" not in headers


async def test_the_role_comes_with_the_first_token_and_never_before_it(cluster: Cluster) -> None:
    """A load generator takes the first event that has choices for the first token."""
    cluster.decoders[0].behaviours = [replies_stream(event(OPENING), event(chunk("a")), events(chunk("b")))]
    async with cluster.client.post("/v1/chat/completions", json=chat_body(stream=True)) as answer:
        blocks = [block async for block in http_chunks(answer)]
    assert blocks[0].startswith(event(OPENING) + event(chunk("a")))
    assert b"".join(blocks) == events(OPENING, chunk("a"), chunk("b"))


async def test_a_first_token_without_text_is_not_held_back(cluster: Cluster) -> None:
    """Half of a character, or a special token that is not shown: the engine has begun to answer all the same."""
    more = asyncio.Event()
    cluster.decoders[0].behaviours = [
        replies_stream(event(OPENING), event(WITHOUT_TEXT), then=more, last=events(chunk("b")))
    ]
    async with asyncio.timeout(10), cluster.client.post("/v1/chat/completions", json=chat_body(stream=True)) as answer:
        begun = event(OPENING) + event(WITHOUT_TEXT)
        assert await answer.content.readexactly(len(begun)) == begun
        more.set()
        assert await answer.read() == events(chunk("b"))


async def test_every_token_is_an_event_that_does_not_wait_for_the_next(cluster: Cluster) -> None:
    seen = asyncio.Semaphore(0)

    async def one_by_one(request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        await response.write(event(OPENING))
        for token in "abc":
            await response.write(event(chunk(token)))
            await seen.acquire()  # a gateway that gathered tokens would leave us here for ever
        await response.write(DONE)
        return response

    cluster.decoders[0].behaviours = [one_by_one]
    async with asyncio.timeout(10), cluster.client.post("/v1/chat/completions", json=chat_body(stream=True)) as answer:
        assert await answer.content.readexactly(len(event(OPENING))) == event(OPENING)
        for token in "abc":
            assert await answer.content.readexactly(len(event(chunk(token)))) == event(chunk(token))
            seen.release()
        assert await answer.content.read() == DONE


@pytest.mark.parametrize("options", [None, {"include_usage": True}])
async def test_usage_is_asked_of_the_engine_only_if_the_client_asks(
    cluster: Cluster, options: dict[str, bool] | None
) -> None:
    extra = {"stream_options": options} if options else {}
    sent = events(OPENING, chunk("a"), *([USAGE] if options else []))
    cluster.decoders[0].behaviours = [replies_stream(sent)]
    assert await cluster.stream(chat_body(**extra)) == (200, sent)
    assert cluster.decoders[0].calls[0].body.get("stream_options") == options


BREAKS: dict[str, dict[str, Any]] = {
    "the engine says why": {"last": events(ERROR)},
    "the engine is gone": {"cut": True},
}
BEGUN = event(OPENING) + event(chunk("a"))


@pytest.mark.parametrize("how", BREAKS)
async def test_a_broken_stream_ends_with_an_event_named_error(cluster: Cluster, how: str) -> None:
    read = asyncio.Event()
    cluster.decoders[0].behaviours = [replies_stream(BEGUN, then=read, **BREAKS[how])]
    async with asyncio.timeout(10), cluster.client.post("/v1/chat/completions", json=chat_body(stream=True)) as answer:
        assert await answer.content.readexactly(len(BEGUN)) == BEGUN
        read.set()
        error, done, nothing = (await answer.content.read()).split(b"\n\n")
    name, data = error.split(b"\n")
    assert name == b"event: error"
    assert json.loads(data.removeprefix(b"data: "))["error"]["message"]
    assert (done + b"\n\n", nothing) == (DONE, b"")


@pytest.mark.parametrize("how", BREAKS)
async def test_openais_client_raises_where_a_stream_breaks(cluster: Cluster, how: str) -> None:
    read = asyncio.Event()
    cluster.decoders[0].behaviours = [replies_stream(BEGUN, then=read, **BREAKS[how])]
    async with openai.AsyncOpenAI(base_url=f"{cluster.url}/v1", api_key="any", max_retries=0, timeout=10) as client:
        messages = chat_body()["messages"]
        parts = aiter(await client.chat.completions.create(model="demo", messages=messages, stream=True))
        assert [(await anext(parts)).choices[0].delta.content for _ in range(2)] == ["", "a"]
        read.set()
        with pytest.raises(openai.APIError, match=r"Internal server error|could not be generated"):
            await anext(parts)


def test_only_errors_are_named() -> None:
    mentions = chunk('\ndata: {"error": "quoted by the model"}')
    assert named_errors(events(OPENING, mentions, USAGE)) == events(OPENING, mentions, USAGE)
    assert named_errors(events(mentions, ERROR)) == event(mentions) + b"event: error\n" + events(ERROR)
