"""Images at web addresses: how much, how many at once, and for how long."""

import asyncio
import threading
from collections.abc import Iterator, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import pytest
from aiohttp import web
from gateway_fakes import Cluster, a_cluster, chat_body, hangs, image_part
from image_origin import PICTURE, Making, Origin, answering, refused

from chiasm.gateway import fetching, look_ups, reading
from chiasm.gateway.addresses import Reach
from chiasm.gateway.shares import Turns

pytestmark = pytest.mark.slow


async def test_an_origin_without_end_is_cut_off_at_the_limit(make: Making, origin: Origin) -> None:
    async def endless(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        while True:
            await response.write(bytes(10_000))

    origin.answer = endless
    got, _, message = await refused(await make(max_item_bytes=100_000), origin.url())
    assert (got, "100000 bytes" in message) == (400, True)


async def test_the_images_of_a_request_have_a_limit_together(make: Making, origin: Origin) -> None:
    origin.answer = answering(body=PICTURE + bytes(2000))
    cluster = await make(max_body_bytes=2 * len(PICTURE) + 4000)
    urls = [origin.url(f"/{index}") for index in range(3)]
    status, answer, _ = await cluster.chat(
        {"messages": [{"role": "user", "content": [image_part(u) for u in urls[:2]]}]}
    )
    assert status == 200, answer
    status, answer, _ = await cluster.chat({"messages": [{"role": "user", "content": [image_part(u) for u in urls]}]})
    assert (status, "together" in answer["error"]["message"]) == (400, True)


async def test_what_is_fetched_takes_room_in_the_gateway(
    make: Making, origin: Origin, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "VALUE_BYTES", 0)  # so that the room is as small as it is told to be
    origin.answer = answering(body=PICTURE + bytes(700_000))
    cluster = await make(max_body_bytes=1 << 20, max_held_bytes=4 << 20)
    async with asyncio.timeout(10):
        asking = []
        for _ in range(2):
            seen = asyncio.Event()
            cluster.decoders[0].behaviours.append(hangs(seen))
            asking.append(asyncio.create_task(cluster.chat(chat_body(origin.url()))))
            await seen.wait()
        assert (await cluster.chat(chat_body(origin.url())))[0] == 429
    for each in asking:
        each.cancel()
    await asyncio.wait(asking)


async def test_a_slow_origin_costs_the_deadline_and_no_more(make: Making, origin: Origin) -> None:
    origin.answer = lambda _: asyncio.Event().wait()
    got, code, message = await refused(await make(fetch_timeout_s=0.2), origin.url())
    assert (got, code) == (424, "media_fetch_failed")
    assert "0.2 s" in message
    await asyncio.wait_for(origin.left.wait(), 10)


async def test_a_client_that_leaves_takes_its_fetches_along(make: Making, origin: Origin) -> None:
    reached = asyncio.Event()

    async def waits(_: web.Request) -> None:
        reached.set()
        await asyncio.Event().wait()

    origin.answer = waits
    cluster = await make()
    async with asyncio.timeout(10):
        asking = asyncio.create_task(cluster.chat(chat_body(origin.url())))
        await reached.wait()
        asking.cancel()
        await origin.left.wait()
    assert cluster.scheduler.sent == []


async def test_only_so_many_are_fetched_at_once(make: Making, origin: Origin, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetching, "FETCHES_AT_ONCE", 2)
    under_way = most = 0
    full = asyncio.Event()

    async def counts(_: web.Request) -> web.Response:
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        if under_way == 2:
            full.set()
        await full.wait()
        under_way -= 1
        return web.Response(body=PICTURE)

    origin.answer = counts
    cluster = await make()
    async with asyncio.timeout(10):
        status, _, _ = await cluster.chat(chat_body(*(origin.url(f"/{index}") for index in range(6))))
    assert (status, most, len(origin.asked)) == (200, 2, 6)


async def test_a_request_for_many_images_of_a_slow_host_leaves_room_for_others(make: Making, origin: Origin) -> None:
    waiting, full = 0, asyncio.Event()

    async def slow(request: web.Request) -> web.Response:
        nonlocal waiting
        if request.path == "/quick":
            return web.Response(body=PICTURE)
        waiting += 1
        if waiting == fetching.FETCHES_OF_ONE_REQUEST:
            full.set()
        return await asyncio.Event().wait()  # type: ignore[return-value]

    origin.answer = slow
    cluster = await make(max_items=fetching.FETCHES_AT_ONCE)
    urls = [origin.url(f"/slow/{index}") for index in range(fetching.FETCHES_AT_ONCE)]
    async with asyncio.timeout(10):
        greedy = asyncio.create_task(cluster.chat(chat_body(*urls)))
        await full.wait()
        assert (await cluster.chat(chat_body(origin.url("/quick"))))[0] == 200
    assert waiting == fetching.FETCHES_OF_ONE_REQUEST
    greedy.cancel()
    await asyncio.wait([greedy])


async def test_fetches_go_round_among_keys(make: Making, origin: Origin, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetching, "FETCHES_AT_ONCE", 1)
    wanted: asyncio.Queue[str] = asyncio.Queue()

    class Watched(Turns):
        def turn(self, tenant: str) -> AbstractAsyncContextManager[None]:
            wanted.put_nowait(tenant)
            return super().turn(tenant)

    monkeypatch.setattr(fetching, "Turns", Watched)
    go_on = asyncio.Event()

    async def waits(_: web.Request) -> web.Response:
        await go_on.wait()
        return web.Response(body=PICTURE)

    origin.answer = waits
    cluster = await make(api_keys=["a", "b"])
    async with asyncio.timeout(10):
        asking = []
        for who, path in (("a", "/a1"), ("a", "/a2"), ("a", "/a3"), ("b", "/b1")):
            asking.append(asyncio.create_task(status_of(cluster, who, origin.url(path))))
            await wanted.get()
        go_on.set()
        assert [await each for each in asking] == [200] * 4
    assert origin.asked == ["/a1", "/a2", "/b1", "/a3"]


async def status_of(cluster: Cluster, who: str, url: str) -> int:
    headers = {"Authorization": f"Bearer {who}"}
    async with cluster.client.post("/v1/chat/completions", json=chat_body(url), headers=headers) as answer:
        return answer.status


@dataclass
class SlowNames:
    """Names that are looked up for as long as the test lasts; all others are found at once."""

    origin: Origin
    end: threading.Event = field(default_factory=threading.Event)
    threads: list[threading.Thread] = field(default_factory=list)

    def look_up(self, host: str, port: int) -> Sequence[str]:
        self.threads.append(threading.current_thread())
        if host.startswith("slow"):
            self.end.wait(60)
        return self.origin.addresses

    def cluster(self, **config: Any) -> AbstractAsyncContextManager[Cluster]:
        domains = [f"*.cdn.test:{self.origin.port}"]
        reach = Reach(self.look_up, self.origin.reach().permits)
        return a_cluster(reach, allowed_media_domains=domains, **config)

    def urls(self, count: int) -> list[str]:
        return [self.origin.url(host=f"slow-{index}.cdn.test") for index in range(count)]

    def quick_url(self) -> str:
        return self.origin.url(host="a.cdn.test")


@pytest.fixture
def names(origin: Origin) -> Iterator[SlowNames]:
    names = SlowNames(origin)
    yield names
    names.end.set()
    for thread in names.threads:
        thread.join(10)


async def test_names_that_are_never_found_do_not_keep_others_from_being_looked_up(names: SlowNames) -> None:
    async with names.cluster(fetch_timeout_s=0.5) as cluster:
        slow = iter(names.urls(3 * fetching.FETCHES_AT_ONCE))
        for _ in range(3):
            urls = islice(slow, fetching.FETCHES_AT_ONCE)
            given_up = await asyncio.gather(*(cluster.chat(chat_body(url)) for url in urls))
            assert {status for status, *_ in given_up} == {424}
            assert (await cluster.chat(chat_body(names.quick_url())))[0] == 200


async def test_the_look_ups_of_one_key_leave_room_for_others(names: SlowNames, monkeypatch: pytest.MonkeyPatch) -> None:
    """However long they outlast their fetches."""
    monkeypatch.setattr(fetching, "LOOK_UPS_AT_ONCE", 4)
    async with names.cluster(fetch_timeout_s=0.5, api_keys=["a", "b"]) as cluster:
        for url in names.urls(2):
            assert await status_of(cluster, "a", url) == 424
        assert await status_of(cluster, "a", names.quick_url()) == 429
        assert await status_of(cluster, "b", names.quick_url()) == 200
        names.end.set()
        async with asyncio.timeout(10):
            while await status_of(cluster, "a", names.quick_url()) != 200:
                pass


async def test_a_look_up_that_finds_no_thread_keeps_no_room(names: SlowNames, monkeypatch: pytest.MonkeyPatch) -> None:
    def start(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(fetching, "LOOK_UPS_AT_ONCE", 2)
    async with names.cluster() as cluster:
        with monkeypatch.context() as context:
            context.setattr(look_ups, "Thread", type("Unstartable", (threading.Thread,), {"start": start}))
            assert await status_of(cluster, "", names.quick_url()) == 500
        assert await status_of(cluster, "", names.quick_url()) == 200


async def test_a_name_that_is_never_found_does_not_hold_up_the_gateways_end(names: SlowNames) -> None:
    async with names.cluster(fetch_timeout_s=0.2) as cluster:
        assert await status_of(cluster, "", names.urls(1)[0]) == 424
    [thread] = names.threads
    assert thread.is_alive()
    assert thread.daemon  # so the process does not wait for it either
