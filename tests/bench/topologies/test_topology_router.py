"""The router, with engines that answer by a script: what comes through, how it is spread, what becomes of faults."""

import asyncio
import json
import sys
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import ExitStack

import aiohttp
import pytest
from aiohttp import ClientSession, web
from scripted_upstream import Script, post, says, stream, upstream

from bench.topologies import front, router
from bench.topologies.front import serving
from bench.topologies.program import Program, start
from bench.topologies.router import Replicas, Router
from chiasm.client import get_json


@pytest.fixture
async def client() -> AsyncIterator[ClientSession]:
    async with ClientSession() as session:
        yield session


def error_of(body: bytes) -> str:
    code: str = json.loads(body)["error"]["code"]
    return code


async def test_the_request_and_the_answer_come_through_as_they_are(client: ClientSession) -> None:
    async with upstream(says('{"no": 1}', 418)) as engine, serving(Router(Replicas({engine.url: 1.0}))) as url:
        headers = {"Authorization": "Bearer key", "X-Request-Id": "seven", "Content-Type": "application/json"}
        async with client.post(f"{url}/tokenize?a=b", data=b' {"x":1}', headers=headers) as answer:
            assert (answer.status, await answer.read()) == (418, b'{"no": 1}')
            assert answer.content_type == "application/json"
    [asked] = engine.asked
    assert (asked.method, asked.path, asked.body) == ("POST", "/tokenize?a=b", b' {"x":1}')
    assert {name: asked.headers[name] for name in headers} == headers


async def test_a_stream_is_handed_on_while_it_goes_on(client: ClientSession) -> None:
    seen = asyncio.Event()

    async def script(request: web.Request, _number: int) -> web.StreamResponse:
        response = await stream(request)
        await response.write(b"data: one\n\n")
        await seen.wait()  # until the client has it
        await response.write(b"data: two\n\n")
        return response

    async with upstream(script) as engine, serving(Router(Replicas({engine.url: 1.0}))) as url:
        answer = await client.post(f"{url}/v1/chat/completions", data=b"{}")
        assert answer.content_type == "text/event-stream"
        assert await answer.content.readexactly(11) == b"data: one\n\n"
        seen.set()
        assert await answer.content.read() == b"data: two\n\n"


async def test_the_one_with_the_fewest_under_way_is_asked_and_of_equals_the_one_longest_idle(
    client: ClientSession,
) -> None:
    release = [asyncio.Event() for _ in range(5)]
    arrived: asyncio.Queue[str] = asyncio.Queue()

    def held(name: str) -> Script:
        async def script(request: web.Request, _number: int) -> web.StreamResponse:
            arrived.put_nowait(name)
            await release[int(request.query["number"])].wait()
            return web.Response(text=name)

        return script

    async with (
        upstream(held("a")) as a,
        upstream(held("b")) as b,
        serving(Router(Replicas({a.url: 1.0, b.url: 1.0}))) as url,
    ):

        async def ask(number: int) -> str:
            async with client.get(f"{url}/v1/models?number={number}") as answer:
                return await answer.text()

        tasks = []
        for number, expected in enumerate("abab"):
            tasks.append(asyncio.create_task(ask(number)))
            assert await arrived.get() == expected
        release[1].set()
        assert await tasks[1] == "b"
        tasks.append(asyncio.create_task(ask(4)))
        assert await arrived.get() == "b"
        for event in release:
            event.set()
        assert Counter(await asyncio.gather(*tasks)) == {"a": 2, "b": 3}


async def test_an_engine_that_is_not_there_is_named(client: ClientSession) -> None:
    async with upstream(says("")) as engine:
        pass
    async with serving(Router(Replicas({engine.url: 1.0}))) as url:
        status, body = await post(client, url)
    assert (status, error_of(body)) == (502, "engine_failed")
    assert engine.url in body.decode()


async def test_an_engine_that_does_not_answer_in_time_is_named(
    client: ClientSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(front, "REQUEST_TIMEOUT_S", 0.1)

    async def script(_request: web.Request, _number: int) -> web.StreamResponse:
        await asyncio.Event().wait()
        raise AssertionError

    async with upstream(script) as engine, serving(Router(Replicas({engine.url: 1.0}))) as url:
        status, body = await post(client, url)
    assert (status, error_of(body)) == (504, "engine_timeout")


async def test_a_stream_that_breaks_off_ends_with_an_error_as_an_event_of_its_own(client: ClientSession) -> None:
    async def script(request: web.Request, _number: int) -> web.StreamResponse:
        response = await stream(request)
        await response.write(b"data: on")
        assert request.transport is not None
        request.transport.close()
        return response

    async with upstream(script) as engine, serving(Router(Replicas({engine.url: 1.0}))) as url:
        status, body = await post(client, url)
    assert status == 200
    begun, event, done = body.decode().strip().split("\n\n")
    assert (begun, done) == ("data: on", "data: [DONE]")
    name, data = event.split("\n")
    assert name == "event: error"
    assert error_of(data.removeprefix("data: ").encode()) == "engine_failed"


async def test_an_answer_in_one_piece_that_breaks_off_is_no_answer(client: ClientSession) -> None:
    async def script(request: web.Request, _number: int) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Length": "100"})
        await response.prepare(request)
        await response.write(b"{")
        assert request.transport is not None
        request.transport.close()
        return response

    async with upstream(script) as engine, serving(Router(Replicas({engine.url: 1.0}))) as url:
        with pytest.raises(aiohttp.ClientError):
            await post(client, url)


async def test_a_client_that_leaves_is_dropped_in_the_engine_and_counts_no_more(client: ClientSession) -> None:
    began, dropped = asyncio.Event(), asyncio.Event()

    async def script(request: web.Request, _number: int) -> web.StreamResponse:
        began.set()
        try:
            await asyncio.Event().wait()
        finally:
            dropped.set()
        raise AssertionError

    replicas = Replicas({"placeholder": 1.0})
    async with upstream(script) as engine:
        replicas = Replicas({engine.url: 1.0})
        async with serving(Router(replicas)) as url:
            asking = asyncio.create_task(post(client, url))
            await began.wait()
            asking.cancel()
            await dropped.wait()
            with replicas.least_loaded() as chosen:
                assert chosen == engine.url


def test_what_is_under_way_at_a_slower_one_counts_so_many_times_more() -> None:
    replicas = Replicas({"slow": 4.0, "quick": 1.0})
    with ExitStack() as under_way:
        chosen = [under_way.enter_context(replicas.least_loaded()) for _ in range(6)]
    assert chosen == ["quick", "quick", "quick", "slow", "quick", "quick"]


async def test_more_than_it_takes_at_once_are_refused(client: ClientSession, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(front, "MOST_AT_ONCE", 1)
    began, release = asyncio.Event(), asyncio.Event()

    async def script(_request: web.Request, _number: int) -> web.StreamResponse:
        began.set()
        await release.wait()
        return web.Response(text="done")

    async with upstream(script) as engine, serving(Router(Replicas({engine.url: 1.0}))) as url:
        first = asyncio.create_task(post(client, url))
        await began.wait()
        status, body = await post(client, url)
        assert (status, error_of(body)) == (429, "front_full")
        release.set()
        assert await first == (200, b"done")
        assert await post(client, url) == (200, b"done")


async def test_a_body_that_is_too_large_is_refused(client: ClientSession, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(front, "MAX_BODY_BYTES", 1000)
    async with upstream(says("{}")) as engine, serving(Router(Replicas({engine.url: 1.0}))) as url:
        assert (await post(client, url, b"x" * 1000))[0] == 200
        status, body = await post(client, url, b"x" * 1001)
    assert (status, error_of(body)) == (413, "body_too_large")


async def test_it_runs_as_a_process_that_ends_with_its_owner() -> None:
    async with upstream(says('{"data": []}')) as engine:
        process = start([sys.executable, "-m", router.__name__, engine.url])
        program = Program(process, "router")
        try:
            await asyncio.to_thread(program.wait_ready)
            assert await asyncio.to_thread(get_json, program.url, "/v1/models") == {"data": []}
            assert process.stdin is not None
            process.stdin.close()  # as the system does when the owner is killed
            assert await asyncio.to_thread(process.wait, 20.0) == 0
        finally:
            await asyncio.to_thread(program.stop)
