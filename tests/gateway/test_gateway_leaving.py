"""A client that leaves takes along whatever is being done for it, in whichever phase its request is.

While images are fetched: see `test_gateway_fetching_limits.py`.
"""

import asyncio
import threading
from typing import Any

import pytest
from gateway_fakes import OPENING, Cluster, chat_body, chunk, data_url, events, hangs, png, replies_stream

from chiasm.gateway import reading
from chiasm.gateway.media import decode
from chiasm.messages import Cancel, DecodeDone, DecodeFailed, EncodeDone, Submit

pytestmark = pytest.mark.slow

IMAGE = data_url(png())


@pytest.mark.parametrize("stream", [False, True])
async def test_a_client_that_leaves_takes_its_decode_along(cluster: Cluster, stream: bool) -> None:
    seen = asyncio.Event()
    cluster.decoders[0].behaviours = [hangs(seen)]
    if stream:
        cluster.decoders[0].behaviours = [replies_stream(events(OPENING, chunk("a"), done=False), then=asyncio.Event())]
    async with asyncio.timeout(10):
        asking = asyncio.create_task(cluster.client.post("/v1/chat/completions", json=chat_body(stream=stream)))
        if stream:
            await (await asking).content.readany()
            (await asking).close()
        else:
            await seen.wait()
            asking.cancel()
        cancel = await cluster.scheduler.wait_for(Cancel)
        await cluster.decoders[0].aborted.wait()
    assert cancel.request == cluster.scheduler.of(Submit)[0].request
    assert cluster.scheduler.of(DecodeFailed) == cluster.scheduler.of(DecodeDone) == []
    assert 'chiasm_requests_total{outcome="client_left"} 1.0' in await cluster.metrics()


async def test_a_client_that_leaves_with_the_last_event_has_its_answer(cluster: Cluster) -> None:
    """Many do, and do not wait for the connection to be closed in form."""
    held = asyncio.Event()
    cluster.decoders[0].behaviours = [replies_stream(events(OPENING, chunk("a")), then=held)]
    async with asyncio.timeout(10):
        answer = await cluster.client.post("/v1/chat/completions", json=chat_body(stream=True))
        received = b""
        while b"[DONE]" not in received:
            received += await answer.content.readany()
        answer.close()
        done = await cluster.scheduler.wait_for(DecodeDone)
        while 'chiasm_requests_total{outcome="answered"} 1.0' not in await cluster.metrics():
            pass
    assert done.output_tokens > 0
    assert cluster.scheduler.of(Cancel) == []


async def test_a_client_that_leaves_takes_its_encodes_along(cluster: Cluster) -> None:
    seen = asyncio.Event()
    cluster.encoders[0].behaviours = [hangs(seen)]
    async with asyncio.timeout(10):
        asking = asyncio.create_task(cluster.chat(chat_body(IMAGE)))
        await seen.wait()
        asking.cancel()
        await cluster.scheduler.wait_for(Cancel)
        await cluster.encoders[0].aborted.wait()


@pytest.mark.parametrize("known", [False, True])
async def test_a_client_that_leaves_the_queue_is_forgotten(cluster: Cluster, known: bool) -> None:
    """While it waits for an encoder, and while it waits for a decoder."""
    last = EncodeDone if known else Submit
    cluster.scheduler.decide = lambda message: [] if isinstance(message, last) else cluster.scheduler.usual(message)
    async with asyncio.timeout(10):
        asking = asyncio.create_task(cluster.chat(chat_body(IMAGE)))
        await cluster.scheduler.wait_for(last)
        asking.cancel()
        cancel = await cluster.scheduler.wait_for(Cancel)
    assert cancel.request == cluster.scheduler.of(Submit)[0].request
    assert cluster.decoders[0].calls == []


async def test_a_client_that_leaves_while_its_images_are_read_is_never_heard_of(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, left = asyncio.Event(), threading.Event()
    loop = asyncio.get_running_loop()
    usual = reading.Threads.run
    readers: list[Any] = []  # the tasks that want something done in threads

    def slow(*arguments: Any) -> Any:
        loop.call_soon_threadsafe(begun.set)
        assert left.wait(10)
        return decode(*arguments)

    async def run(*arguments: Any) -> Any:
        readers.append(asyncio.current_task())
        return await usual(*arguments)

    monkeypatch.setattr(reading, "decode", slow)
    monkeypatch.setattr(reading.Threads, "run", run)
    async with asyncio.timeout(10):
        asking = asyncio.create_task(cluster.chat(chat_body(IMAGE)))
        await begun.wait()
        asking.cancel()
        while not readers[-1].cancelling():
            await cluster.metrics()
        left.set()
        while 'outcome="client_left"} 1.0' not in await cluster.metrics():
            pass
    assert (await cluster.chat(chat_body()))[0] == 200
    assert len(cluster.scheduler.of(Submit)) == 1
