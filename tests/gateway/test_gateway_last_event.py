"""What becomes of a request behind its [DONE]: it is answered, or has failed, whatever engine and client do then;
unless that client does not read.
"""

import asyncio
import socket
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import pytest
from aiohttp import web
from aiohttp.web_protocol import RequestHandler
from gateway_fakes import ERROR, OPENING, Cluster, chat_body, chunk, events, hangs, replies_stream
from text_engine import PROMPT

from chiasm.gateway.delivery import Delivery
from chiasm.messages import Cancel, Decode, DecodeDone, DecodeFailed, Submit
from chiasm.nouns import Role

pytestmark = pytest.mark.slow

LONG = events(chunk("x" * 50_000))
"""More than `small_buffers` take, and less than what aiohttp writes without waiting until it is taken."""


@pytest.fixture
def small_buffers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Servers notice after a few kilobytes that their client does not read."""
    usual = RequestHandler.connection_made

    def connection_made(self: "RequestHandler[Any]", transport: asyncio.Transport) -> None:
        transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        transport.set_write_buffer_limits(high=0)
        usual(self, transport)

    monkeypatch.setattr(RequestHandler, "connection_made", connection_made)


@asynccontextmanager
async def asking_without_reading(cluster: Cluster) -> AsyncIterator[socket.socket]:
    """The socket of a client that has asked for a stream."""
    host, port = cluster.url.removeprefix("http://").split(":")
    body = msgspec.json.encode(chat_body(stream=True))
    head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: {host}\r\nContent-Length: {len(body)}\r\n\r\n"
    loop = asyncio.get_running_loop()
    with socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
        client.setblocking(False)
        await loop.sock_connect(client, (host, int(port)))
        await loop.sock_sendall(client, head.encode() + body)
        yield client


async def read_to_done(answer: Any) -> bytes:
    received = b""
    while b"[DONE]" not in received:
        received += await answer.content.readany()
    return received


async def read_to_end(client: socket.socket) -> bytes:
    received = b""
    while part := await asyncio.get_running_loop().sock_recv(client, 65536):
        received += part
    return received


async def outcomes(cluster: Cluster) -> list[str]:
    """Those of all requests, once there is one."""
    while True:
        lines = [
            line
            for line in (await cluster.metrics()).splitlines()
            if line.startswith("chiasm_requests_total{") and not line.endswith(" 0.0")
        ]
        if lines:
            return [line.split('"')[1] for line in lines]


def closing_in_the_last_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Has the connection closed when only the end of the stream remains to be said, and nobody has been told yet."""
    finish = Delivery.finish

    def closed(self: Delivery) -> Coroutine[Any, Any, web.StreamResponse]:
        assert self._request.transport is not None
        self._request.transport.close()
        return finish(self)

    monkeypatch.setattr(Delivery, "finish", closed)


@pytest.mark.usefixtures("small_buffers")
async def test_a_client_that_stops_reading_just_before_the_end_is_cut_off(make_cluster: Callable[..., Any]) -> None:
    cluster = await make_cluster(request_timeout_s=1.0)
    cluster.decoders[0].behaviours = [replies_stream(LONG)]
    async with asyncio.timeout(10), asking_without_reading(cluster) as client:
        await cluster.scheduler.wait_for(DecodeDone)
        assert await outcomes(cluster) == ["client_left"]
        assert b"[DONE]" not in await read_to_end(client)


@pytest.mark.usefixtures("small_buffers")
async def test_a_client_that_closes_before_it_has_all_has_left(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    closing_in_the_last_moment(monkeypatch)
    cluster.decoders[0].behaviours = [replies_stream(LONG)]
    async with asyncio.timeout(10), asking_without_reading(cluster):
        assert await outcomes(cluster) == ["client_left"]


async def test_a_client_that_closes_when_it_has_all_has_its_answer(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    closing_in_the_last_moment(monkeypatch)
    async with asyncio.timeout(10), asking_without_reading(cluster):
        assert await outcomes(cluster) == ["answered"]


async def test_a_stream_that_ends_in_an_error_has_failed_though_its_client_leaves_with_the_last_event(
    cluster: Cluster,
) -> None:
    begun = asyncio.Event()
    opening = events(OPENING, chunk("a"), done=False)

    async def breaks(request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        await replies_stream(opening, then=begun, last=events(ERROR))(request, body)
        return await hangs(asyncio.Event())(request, body)

    cluster.decoders[0].behaviours = [breaks]
    async with asyncio.timeout(10):
        answer = await cluster.client.post("/v1/chat/completions", json=chat_body(stream=True))
        await answer.content.readexactly(len(opening))
        begun.set()
        await read_to_done(answer)
        answer.close()
        assert await outcomes(cluster) == ["decode_failed"]
    assert cluster.scheduler.of(DecodeDone) == []


async def test_an_engine_that_breaks_off_behind_the_last_event_has_answered(cluster: Cluster) -> None:
    cluster.decoders[0].behaviours = [replies_stream(stream := events(OPENING, chunk("a")), cut=True)]
    async with asyncio.timeout(10):
        assert await cluster.stream(chat_body()) == (200, stream)
        assert await outcomes(cluster) == ["answered"]
    assert [done.output_tokens for done in cluster.scheduler.of(DecodeDone)] == [1]
    assert cluster.scheduler.of(DecodeFailed) == []


async def test_the_end_of_one_attempt_is_not_that_of_the_next(cluster: Cluster) -> None:
    """An engine says [DONE] before it is done, and is given up; the client leaves while the next one works."""
    cluster.scheduler.role = Role.TEXT
    one = chunk("a")
    one["choices"][0]["token_ids"] = [1]
    early = events(chunk("", prompt_token_ids=PROMPT), one)
    cluster.decoders[0].behaviours = [replies_stream(early, then=asyncio.Event())]
    cluster.decoders[1].behaviours = [hangs(seen := asyncio.Event())]
    async with asyncio.timeout(10):
        body = chat_body(stream=True, max_tokens=50, temperature=0)
        answer = await cluster.client.post("/v1/chat/completions", json=body)
        await read_to_done(answer)
        [submit] = cluster.scheduler.of(Submit)
        cluster.scheduler.push(Decode(submit.request, "decoder-1", Role.TEXT, cluster.decoders[1].url, ()))
        await seen.wait()
        answer.close()
        await outcomes(cluster)
    assert len(cluster.scheduler.of(Cancel)) == 1
    assert cluster.scheduler.of(DecodeDone) == []


async def test_the_seconds_of_a_decode_end_with_its_last_event(make_cluster: Callable[..., Any]) -> None:
    """Not with the deadline, to which a client that does not read may take the request."""
    cluster = await make_cluster(request_timeout_s=1.0)
    cluster.decoders[0].behaviours = [replies_stream(events(OPENING, chunk("a")), then=asyncio.Event())]
    began = time.monotonic()
    async with asyncio.timeout(10):
        answer = await cluster.client.post("/v1/chat/completions", json=chat_body(stream=True))
        await read_to_done(answer)
        longest = time.monotonic() - began
        done = await cluster.scheduler.wait_for(DecodeDone)
        await answer.read()
    assert done.seconds < longest
