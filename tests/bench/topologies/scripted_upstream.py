"""An engine's HTTP server that answers by a script, and remembers what it was asked."""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from aiohttp import ClientSession, web

Script = Callable[[web.Request, int], Awaitable[web.StreamResponse]]
"""Answers a request, of which it is told how many came before."""


@dataclass
class Asked:
    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes


@dataclass
class Upstream:
    script: Script
    url: str = ""
    asked: list[Asked] = field(default_factory=list)

    async def answer(self, request: web.Request) -> web.StreamResponse:
        number = len(self.asked)
        self.asked.append(Asked(request.method, request.path_qs, request.headers, await request.read()))
        return await self.script(request, number)


@asynccontextmanager
async def upstream(script: Script) -> AsyncIterator[Upstream]:
    engine = Upstream(script)
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", engine.answer)
    runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=1.0)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        engine.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        yield engine
    finally:
        await runner.cleanup()


def says(text: str, status: int = 200, content_type: str = "application/json") -> Script:
    async def script(_request: web.Request, _number: int) -> web.StreamResponse:
        return web.Response(text=text, status=status, content_type=content_type)

    return script


async def stream(request: web.Request) -> web.StreamResponse:
    """A stream that has begun."""
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream; charset=utf-8"})
    await response.prepare(request)
    return response


async def post(client: ClientSession, url: str, body: bytes = b"{}") -> tuple[int, bytes]:
    async with client.post(f"{url}/v1/chat/completions", data=body) as answer:
        return answer.status, await answer.read()
