"""A server of images on this machine, for gateways that fetch.

They are told to look names up as the test says, and that this one address counts as public; everything else is as in
service.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest
from aiohttp import web
from gateway_fakes import Cluster, chat_body, png

from chiasm.gateway.addresses import Reach, is_public

HERE = "127.0.0.1"
PICTURE = png("blue")
Making = Callable[..., Any]


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


@pytest.fixture
def make(make_cluster: Making, origin: Origin) -> Making:
    def make(**config: Any) -> Any:
        domains = [f"images.test:{origin.port}", f"*.cdn.test:{origin.port}", f"nowhere.test:{origin.port}"]
        return make_cluster(reach=origin.reach(), **{"allowed_media_domains": domains, **config})

    return make


def answering(status: int = 200, body: bytes = b"", **headers: str) -> Callable[[web.Request], Any]:
    async def answer(_: web.Request) -> web.Response:
        return web.Response(status=status, body=body, headers=headers)

    return answer


async def refused(cluster: Cluster, url: str) -> tuple[int, str, str]:
    """Status, code and message; nothing may have gone further than the gateway."""
    status, answer, _ = await cluster.chat(chat_body(url))
    assert cluster.scheduler.sent == []
    assert answer["error"]["param"] == "messages[0].content[0].image_url"
    return status, answer["error"]["code"], answer["error"]["message"]
