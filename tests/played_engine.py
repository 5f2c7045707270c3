"""A server that answers chat requests as an engine does: with a role, and as many tokens as it is asked for.

It remembers what came. It runs in a thread of its own, so that the tested code may block.
"""

import asyncio
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from chiasm.api_paths import CHAT_PATH
from chiasm.loop_thread import LoopThread

PATIENCE_S = 20.0


@dataclass
class PlayedEngine:
    """`key` is the bearer token that it wants, `missing` how many tokens each answer is short of.

    Nobody is answered before `together` have come.
    """

    key: str | None = None
    prompt_tokens: int = 9  # of any prompt
    missing: int = 0
    status: int = 200
    together: int = 0
    workers: list[dict[str, Any]] = field(default_factory=list)  # that it names, as a gateway does
    asked: list[dict[str, Any]] = field(default_factory=list)
    most_at_once: int = 0
    url: str = ""
    _under_way: int = 0
    _all_there: asyncio.Event = field(default_factory=asyncio.Event)

    async def run(self, listening: asyncio.Event) -> None:
        app = web.Application(client_max_size=64 << 20)
        app.add_routes(
            [
                web.post(CHAT_PATH, self._chat),
                web.get("/v1/models", self._models),
                web.get("/v1/chiasm/status", self._status),
            ]
        )
        runner = web.AppRunner(app, shutdown_timeout=0.1)
        await runner.setup()
        try:
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            self.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
            listening.set()
            await asyncio.Event().wait()
        finally:
            await runner.cleanup()

    async def _chat(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        if self._stranger(request):
            return web.json_response({"error": {"message": "who are you?"}}, status=401)
        self.asked.append(body)
        if self.status != 200:
            return web.json_response({"error": {"message": "no room"}}, status=self.status)
        self._under_way += 1
        self.most_at_once = max(self.most_at_once, self._under_way)
        if len(self.asked) >= self.together:
            self._all_there.set()
        await self._all_there.wait()
        try:
            return await self._stream(request, body["max_tokens"] - self.missing)
        finally:
            self._under_way -= 1

    async def _stream(self, request: web.Request, tokens: int) -> web.StreamResponse:
        answer = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await answer.prepare(request)
        role = {"index": 0, "delta": {"role": "assistant", "content": ""}, "finish_reason": None}
        await answer.write(_event({"choices": [role]}))
        for number in range(1, tokens + 1):
            choice = {"index": 0, "delta": {"content": "x"}, "finish_reason": "length" if number == tokens else None}
            await answer.write(_event({"choices": [choice]}))
        await answer.write(
            _event({"choices": [], "usage": {"prompt_tokens": self.prompt_tokens, "completion_tokens": tokens}})
        )
        await answer.write(b"data: [DONE]\n\n")
        return answer

    async def _models(self, request: web.Request) -> web.Response:
        if self._stranger(request):
            return web.json_response({"error": {"message": "who are you?"}}, status=401)
        return web.json_response({"data": [{"id": "played"}]})

    async def _status(self, _request: web.Request) -> web.Response:
        return web.json_response({"workers": self.workers})

    def _stranger(self, request: web.Request) -> bool:
        return self.key is not None and request.headers.get("Authorization") != f"Bearer {self.key}"


def _event(said: Any) -> bytes:
    return b"data: " + json.dumps(said).encode() + b"\n\n"


@contextmanager
def playing(engine: PlayedEngine) -> Iterator[PlayedEngine]:
    """The engine serves at its `url` for as long as the context lasts."""
    listening = asyncio.Event()

    async def wait_listening() -> None:
        await listening.wait()

    thread = LoopThread("played engine", lambda: engine.run(listening))
    try:
        thread.call(wait_listening, PATIENCE_S)
        yield engine
    finally:
        thread.stop(PATIENCE_S)
