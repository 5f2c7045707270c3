"""Images at web addresses: what is fetched, from whom, how often, and what must never be reached."""

import gzip
from collections.abc import Callable
from typing import Any

import pytest
from aiohttp import web
from gateway_fakes import chat_body, data_url, png
from image_origin import PICTURE, Making, Origin, answering, refused

from chiasm.messages import Submit
from chiasm.nouns import Role


async def test_an_image_is_fetched_once_and_engines_see_its_bytes_alone(make: Making, origin: Origin) -> None:
    cluster = await make()
    url = origin.url("/a%20cat.png?size=1")
    status, _, headers = await cluster.chat(chat_body(url, url))
    assert status == 200
    assert origin.asked == ["/a%20cat.png?size=1"]
    [encode] = cluster.encoders[0].calls
    assert encode.body["messages"][0]["content"][0]["image_url"] == {"url": data_url(PICTURE)}
    assert "http" not in str(cluster.decoders[0].calls[0].body["messages"])
    assert headers["Server-Timing"].startswith("fetch;")
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
