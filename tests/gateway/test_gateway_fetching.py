"""Images at web addresses: what is fetched, from whom, how often, and what must never be reached.

The origin is a real server on this machine. So the gateway is told to look names up as the test says, and that this one
address counts as public; everything else is as in service.
"""

import asyncio
import gzip
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest
from aiohttp import web
from gateway_fakes import Cluster, a_cluster, chat_body, data_url, hangs, image_part, png
from yarl import URL

from chiasm.config import GatewayConfig
from chiasm.gateway import fetching
from chiasm.gateway.addresses import AllowedHosts, Reach, is_public
from chiasm.messages import Submit
from chiasm.nouns import Role

HERE = "127.0.0.1"
PICTURE = png("blue")


@dataclass
class Origin:
    """A server of images, and the names under which it is found."""

    port: int = 0
    asked: list[str] = field(default_factory=list)
    looked_up: list[str] = field(default_factory=list)
    addresses: Sequence[str] = (HERE,)
    answer: Callable[[web.Request], Any] | None = None
    left: asyncio.Event = field(default_factory=asyncio.Event)

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self.asked.append(request.path_qs)
        try:
            response = web.Response(body=PICTURE) if self.answer is None else await self.answer(request)
        except asyncio.CancelledError:
            self.left.set()
            raise
        assert isinstance(response, web.StreamResponse)
        return response

    def reach(self) -> Reach:
        def look_up(host: str, port: int) -> Sequence[str]:
            self.looked_up.append(host)
            if host.startswith("nowhere"):
                raise OSError("no such name")
            return self.addresses

        return Reach(look_up, lambda address: address == HERE or is_public(address))

    def url(self, path: str = "/cat.png", host: str = "images.test") -> str:
        return f"http://{host}:{self.port}{path}"


@pytest.fixture
async def origin() -> AsyncIterator[Origin]:
    origin = Origin()
    app = web.Application()
    app.router.add_get("/{path:.*}", origin.handle)
    runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, HERE, 0).start()
    origin.port = runner.addresses[0][1]
    yield origin
    await runner.cleanup()


Making = Callable[..., Any]


@pytest.fixture
def make(make_cluster: Making, origin: Origin) -> Making:
    def make(**config: Any) -> Any:
        domains = [f"images.test:{origin.port}", f"*.cdn.test:{origin.port}", f"nowhere.test:{origin.port}"]
        return make_cluster(reach=origin.reach(), **{"allowed_media_domains": domains, **config})

    return make


async def refused(cluster: Cluster, url: str) -> tuple[int, str, str]:
    """Status, code and message; nothing may have gone further than the gateway."""
    status, answer, _ = await cluster.chat(chat_body(url))
    assert cluster.scheduler.sent == []
    assert answer["error"]["param"] == "messages[0].content[0].image_url"
    return status, answer["error"]["code"], answer["error"]["message"]


async def test_an_image_is_fetched_once_and_engines_see_its_bytes_alone(make: Making, origin: Origin) -> None:
    cluster = await make()
    url = origin.url("/a%20cat.png?size=1")
    status, _, headers = await cluster.chat(chat_body(url, url))
    assert status == 200
    assert origin.asked == ["/a%20cat.png?size=1"]
    [encode] = cluster.encoders[0].calls
    assert encode.body["messages"][0]["content"][0]["image_url"] == {"url": data_url(PICTURE)}
    assert "http" not in str(cluster.decoders[0].calls[0].body["messages"])
    assert [entry.split(";")[0] for entry in headers["Server-Timing"].split(", ")][:2] == ["fetch", "parse"]
    assert 'chiasm_phase_seconds_count{phase="fetch"} 1.0' in await cluster.metrics()


async def test_an_images_identity_is_its_bytes_wherever_they_come_from(make: Making, origin: Origin) -> None:
    cluster = await make()
    for url in (origin.url("/1"), origin.url("/2", "a.cdn.test"), data_url(PICTURE)):
        assert (await cluster.chat(chat_body(url)))[0] == 200
    assert len({submit.items[0].uuid for submit in cluster.scheduler.of(Submit)}) == 1
    assert origin.asked == ["/1", "/2"]
    assert len(cluster.encoders[0].calls) == 1


async def test_a_whole_engine_fetches_nothing_either(make: Making, origin: Origin) -> None:
    cluster = await make()
    cluster.scheduler.role = Role.WHOLE
    assert (await cluster.chat(chat_body(origin.url())))[0] == 200
    [part, _] = cluster.decoders[0].calls[0].body["messages"][0]["content"]
    assert part["image_url"] == {"url": data_url(PICTURE)}


async def test_nothing_is_fetched_unless_the_operator_allows_it(make: Making, origin: Origin) -> None:
    cluster = await make(allowed_media_domains=[])
    status, code, message = await refused(cluster, origin.url())
    assert (status, code) == (400, "media_url_not_allowed")
    assert "does not fetch" in message
    assert "data:image/png;base64" in message
    assert origin.looked_up == []


NOT_ALLOWED = [
    "http://images.test/cat.png",  # allowed for another port
    "https://images.test/cat.png",
    "http://other.test:{port}/",
    "http://cdn.test:{port}/",
    "http://images.test.evil.test:{port}/",
    "http://images.test:{port}@evil.test/",
    "http://user@images.test:{port}/",
    "http://user:secret@images.test:{port}/",
    "http://:secret@images.test:{port}/",
    "http://evil.test\\@images.test:{port}/",
    "http://[::1",
    "http://",
    "http://127.0.0.1:{port}/",
    "http://images.test:99999/",
]


async def test_what_is_not_allowed_is_not_even_looked_up(make: Making, origin: Origin) -> None:
    cluster = await make()
    for url in NOT_ALLOWED:
        status, code, message = await refused(cluster, url.format(port=origin.port))
        assert (status, code) == (400, "media_url_not_allowed"), url
        assert "secret" not in message
    assert (origin.looked_up, origin.asked) == ([], [])


@pytest.mark.parametrize(
    "addresses", [["10.0.0.1"], ["169.254.169.254"], ["::1"], ["::ffff:127.0.0.1"], ["8.8.8.8", "192.168.0.1"], []]
)
async def test_a_name_that_leads_inside_is_refused(make: Making, origin: Origin, addresses: list[str]) -> None:
    origin.addresses = addresses
    status, code, message = await refused(await make(), origin.url())
    assert (status, code) == (400, "media_url_not_allowed")
    assert "not public" in message
    assert origin.asked == []


@pytest.mark.parametrize(
    "host", ["127.0.0.2", "10.0.0.1", "[::1]", "[::ffff:127.0.0.1]", "127.1", "2130706433", "0x7f.1"]
)
async def test_numbers_are_judged_like_names(make: Making, origin: Origin, host: str) -> None:
    origin.addresses = ["127.0.0.2"]  # what some resolvers make of numbers in odd notations
    cluster = await make(allowed_media_domains=[f"*:{origin.port}"])
    status, code, message = await refused(cluster, origin.url(host=host))
    assert (status, code) == (400, "media_url_not_allowed")
    assert "not public" in message
    assert origin.asked == []


async def test_the_connection_is_made_to_the_address_that_was_checked(make: Making, origin: Origin) -> None:
    """A second look-up could have another answer."""
    cluster = await make()
    assert (await cluster.chat(chat_body(origin.url())))[0] == 200
    assert origin.looked_up == ["images.test"]


async def test_proxies_of_the_environment_are_not_used(
    make: Making, origin: Origin, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    assert (await (await make()).chat(chat_body(origin.url())))[0] == 200


def redirecting(target: str, status: int = 302) -> Callable[[web.Request], Any]:
    async def answer(request: web.Request) -> web.Response:
        if request.path.endswith("end"):
            return web.Response(body=PICTURE)
        return web.Response(status=status, headers={"Location": target.format(port=request.url.port)})

    return answer


@pytest.mark.parametrize("target", ["/end", "http://b.cdn.test:{port}/end", "end"])
async def test_redirects_are_followed(make: Making, origin: Origin, target: str) -> None:
    origin.answer = redirecting(target)
    assert (await (await make()).chat(chat_body(origin.url())))[0] == 200
    assert len(origin.asked) == 2


@pytest.mark.parametrize(
    ("target", "status", "hint"),
    [
        ("http://other.test:{port}/end", 400, "other.test"),
        ("http://169.254.169.254/latest", 400, "169.254.169.254"),
        ("file:///etc/passwd", 400, "no valid web address"),
        ("http://me:too@images.test:{port}/end", 400, "password"),
        ("/again", 424, "redirects more than 3 times"),
    ],
)
async def test_redirects_keep_to_the_same_rules(
    make: Making, origin: Origin, target: str, status: int, hint: str
) -> None:
    origin.answer = redirecting(target)
    got, _, message = await refused(await make(), origin.url())
    assert got == status
    assert hint in message
    assert not any("end" in path for path in origin.asked)


def answering(status: int = 200, body: bytes = b"", **headers: str) -> Callable[[web.Request], Any]:
    async def answer(_: web.Request) -> web.Response:
        return web.Response(status=status, body=body, headers=headers)

    return answer


async def hangs_up(request: web.Request) -> web.Response:
    assert request.transport is not None
    request.transport.close()
    return web.Response()


FAULTS = [
    (answering(404), 400, "answered 404"),
    (answering(403), 400, "answered 403"),
    (answering(302), 424, "answered 302"),
    (answering(204), 424, "answered 204"),
    (answering(429), 424, "answered 429"),
    (answering(503), 424, "answered 503"),
    (hangs_up, 424, "cannot be reached"),
    (answering(body=b"<html>"), 400, "no readable image"),
    (answering(), 400, "no readable image"),
    (answering(body=PICTURE[:-9]), 400, "truncated"),
    (answering(body=gzip.compress(PICTURE), **{"Content-Encoding": "gzip"}), 400, "no readable image"),
    (answering(body=png(size=(101, 100))), 400, "pixels allowed"),
    (answering(body=PICTURE + bytes(2000)), 400, "bytes allowed"),
]


async def test_what_an_origin_does_wrong_is_named(make: Making, origin: Origin) -> None:
    cluster = await make(max_item_pixels=10_000, max_item_bytes=2000)
    for answer, status, hint in FAULTS:
        origin.answer = answer
        got, _, message = await refused(cluster, origin.url())
        assert (got, hint in message) == (status, True), (hint, message)


async def test_a_name_that_is_not_known_is_named(make: Making, origin: Origin) -> None:
    got, code, message = await refused(await make(), origin.url(host="nowhere.test"))
    assert (got, code) == (424, "media_fetch_failed")
    assert "nowhere.test" in message


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


async def test_what_is_fetched_takes_room_in_the_gateway(make: Making, origin: Origin) -> None:
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


async def test_names_that_are_never_found_do_not_keep_others_from_being_looked_up(
    origin: Origin,
) -> None:
    end = threading.Event()
    reach = origin.reach()

    def look_up(host: str, port: int) -> Sequence[str]:
        if host.startswith("slow"):
            end.wait(10)
        return reach.look_up(host, port)

    domains = [f"*.cdn.test:{origin.port}"]
    async with a_cluster(Reach(look_up, reach.permits), fetch_timeout_s=0.5, allowed_media_domains=domains) as cluster:
        try:
            slow = [origin.url(host=f"slow-{index}.cdn.test") for index in range(fetching.FETCHES_AT_ONCE)]
            given_up = await asyncio.gather(*(cluster.chat(chat_body(url)) for url in slow))
            assert {status for status, *_ in given_up} == {424}
            assert (await cluster.chat(chat_body(origin.url(host="a.cdn.test"))))[0] == 200
        finally:
            end.set()


async def test_the_threads_that_look_names_up_end_with_the_gateway(origin: Origin) -> None:
    before = set(threading.enumerate())
    async with a_cluster(origin.reach(), allowed_media_domains=[f"images.test:{origin.port}"]) as cluster:
        assert (await cluster.chat(chat_body(origin.url())))[0] == 200
        looking = [thread for thread in set(threading.enumerate()) - before if thread.name.startswith("look-up")]
        assert looking
    for thread in looking:
        await asyncio.to_thread(thread.join, 10)
        assert not thread.is_alive()


PUBLIC = ["8.8.8.8", "1.1.1.1", "2606:4700::1111", "2a00:1450:4001::1"]
NOT_PUBLIC = [
    "0.0.0.0",
    "10.1.1.1",
    "100.64.0.1",
    "100.100.100.200",
    "127.0.0.1",
    "169.254.169.254",
    "172.16.0.1",
    "192.0.0.192",
    "192.0.2.1",
    "192.88.99.1",
    "192.168.0.1",
    "198.18.0.1",
    "198.51.100.1",
    "203.0.113.1",
    "224.0.0.1",
    "240.0.0.1",
    "255.255.255.255",
    "168.63.129.16",
    "::",
    "::1",
    "::8.8.8.8",
    "::ffff:8.8.8.8",
    "64:ff9b::808:808",
    "64:ff9b:1::1",
    "100::1",
    "2001::1",
    "2001:db8::1",
    "2002:808:808::1",
    "3fff::1",
    "5f00::1",
    "fc00::1",
    "fd00:ec2::254",
    "fe80::1",
    "fe80::1%eth0",
    "fec0::1",
    "ff02::1",
    "localhost",
    "example.org",
    "127.1",
    "2130706433",
]


def test_an_address_is_public_only_if_it_is_nothing_else() -> None:
    assert [address for address in [*PUBLIC, *NOT_PUBLIC] if is_public(address)] == PUBLIC


HOSTS = [
    ("a.test", "http://a.test/x", True),
    ("a.test", "https://A.TEST./x", True),
    ("A.test", "https://a.test/x", True),
    ("a.test", "https://a.test:443/x", True),
    ("a.test", "http://a.test:443/x", False),
    ("a.test", "http://b.a.test/x", False),
    ("a.test", "http://a.test.b.test/x", False),
    ("a.test:81", "http://a.test:81/x", True),
    ("a.test:81", "http://a.test/x", False),
    ("*.a.test", "http://b.a.test/x", True),
    ("*.a.test", "http://c.b.a.test/x", True),
    ("*.a.test", "http://a.test/x", False),
    ("*.a.test", "http://xa.test/x", False),
    ("*", "http://anything.test/x", True),
    ("*", "http://anything.test:8080/x", False),
    ("*:8080", "http://anything.test:8080/x", True),
    ("xn--bcher-kva.test", "http://b\u00fccher.test/x", True),
    ("[2606:4700::1111]", "http://[2606:4700::1111]/x", True),
    ("[2606:4700::1111]:81", "http://[2606:4700::1111]:81/x", True),
    ("[2606:4700::1111]:81", "http://[2606:4700::1111]/x", False),
]


def test_a_host_is_allowed_as_the_operator_wrote_it() -> None:
    for entry, url, allowed in HOSTS:
        config = GatewayConfig(allowed_media_domains=[entry])
        assert AllowedHosts(config.allowed_media_domains).allows(URL(url)) is allowed, (entry, url)


@pytest.mark.parametrize("entry", ["", "http://a.test", "a.test/x", "a test", "*a.test", "a.*", "a.test:", "u@a.test"])
def test_what_is_no_host_is_refused_in_the_configuration(entry: str) -> None:
    with pytest.raises(ValueError, match="is no host"):
        GatewayConfig(allowed_media_domains=[entry])
