"""A server of a made-up model in a thread: it answers in full length, at once, and remembers what it was asked."""

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
MODEL = "played"


def event(said: Any) -> bytes:
    return b"data: " + json.dumps(said).encode() + b"\n\n"


def token(finish_reason: str | None = None) -> bytes:
    return event({"choices": [{"index": 0, "delta": {"content": "x"}, "finish_reason": finish_reason}]})


@dataclass
class Played:
    """`refuses` is how many of the first requests it answers with an error; each takes it `busy_s`, one at a time."""

    refuses: int = 0
    busy_s: float = 0.0
    url: str = ""
    asked: list[dict[str, Any]] = field(default_factory=list)
    keys: set[str | None] = field(default_factory=set)
    _listening: asyncio.Event = field(default_factory=asyncio.Event)
    _one: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def run(self) -> None:
        app = web.Application(client_max_size=64 << 20)
        app.add_routes([web.post(CHAT_PATH, self._chat), web.get("/v1/models", self._models)])
        runner = web.AppRunner(app, shutdown_timeout=0.1)
        await runner.setup()
        try:
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            self.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
            self._listening.set()
            await asyncio.Event().wait()
        finally:
            await runner.cleanup()

    async def listening(self) -> None:
        await self._listening.wait()

    async def _models(self, _request: web.Request) -> web.Response:
        return web.json_response({"data": [{"id": MODEL}]})

    async def _chat(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        self.asked.append(body)
        self.keys.add(request.headers.get("Authorization"))
        if len(self.asked) <= self.refuses:
            return web.json_response({"error": {"message": "no images, please"}}, status=400)
        async with self._one:
            await asyncio.sleep(self.busy_s)
        length = body.get("max_tokens") or body["max_completion_tokens"]
        answer = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await answer.prepare(request)
        role = {"index": 0, "delta": {"role": "assistant", "content": ""}, "finish_reason": None}
        await answer.write(event({"choices": [role]}) + token() * (length - 1) + token("length"))
        await answer.write(event({"choices": [], "usage": {"prompt_tokens": 10, "completion_tokens": length}}))
        await answer.write(b"data: [DONE]\n\n")
        return answer


@contextmanager
def playing(played: Played) -> Iterator[Played]:
    thread = LoopThread("played server", played.run)
    try:
        thread.call(played.listening, PATIENCE_S)
        yield played
    finally:
        thread.stop(PATIENCE_S)
