"""An endpoint that plays an engine of a vocabulary of bytes: a token each few milliseconds, and prompts that stall all.

It tells of encodes as a gateway of Chiasm's does, and knows the pictures that it has seen.
"""

import asyncio
import base64
import io
import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from aiohttp import web
from PIL import Image

from chiasm.api_paths import CHAT_PATH
from chiasm.loop_thread import LoopThread

PATIENCE_S = 20.0
GAP_S = 0.01
TEMPLATE_TOKENS = 8
CELL = 28  # pixels a side of an image token


class PlayedEngine:
    """`stall_s` is what each token of a prompt stalls every stream. Without `counts` it tells no usage; `at_once` it
    says all that it has to say in one piece, `refuse` is what it says to pictures, and with `refuse_first` it refuses
    whoever comes first.
    """

    def __init__(
        self,
        stall_s: float = 0.0002,
        counts: bool = True,
        gateway: bool = True,
        refuse: str = "",
        at_once: bool = False,
        refuse_first: bool = False,
    ) -> None:
        self.asked: list[dict[str, Any]] = []
        self._stall_s = stall_s
        self._counts = counts
        self._gateway = gateway
        self._refuse = refuse
        self._at_once = at_once
        self._refuse_first = refuse_first
        self._known: set[str] = set()
        self._stalled_until = 0.0

    async def models(self, _request: web.Request) -> web.Response:
        return web.json_response({"data": [{"id": "played"}]})

    async def chat(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        self.asked.append(body)
        if self._refuse_first and len(self.asked) == 1:
            return web.json_response({"error": {"message": "not yet"}}, status=503)
        content = body["messages"][0]["content"]
        parts = [{"type": "text", "text": content}] if isinstance(content, str) else content
        urls = [part["image_url"]["url"] for part in parts if part["type"] == "image_url"]
        if urls and self._refuse:
            return web.json_response({"error": {"message": self._refuse}}, status=400)
        prompt = TEMPLATE_TOKENS + sum(len(part.get("text", "")) for part in parts) + sum(map(_tokens, urls))
        phases = "fetch;dur=1.0" + "".join(", encode;dur=20.0" for url in urls if url not in self._known)
        self._known.update(urls)
        loop = asyncio.get_running_loop()
        self._stalled_until = max(self._stalled_until, loop.time()) + prompt * self._stall_s
        answer = web.StreamResponse(headers={"Server-Timing": phases} if self._gateway else {})
        await answer.prepare(request)
        for number in range(body["max_tokens"]):
            await asyncio.sleep(GAP_S)
            await asyncio.sleep(max(0.0, self._stalled_until - loop.time()))
            last = number == body["max_tokens"] - 1
            if number == 0:
                role = {"index": 0, "delta": {"role": "assistant", "content": ""}, "finish_reason": None}
                await answer.write(_event({"choices": [role]}))
            choice = {"index": 0, "delta": {"content": "x"}, "finish_reason": "length" if last else None}
            if last or not self._at_once:
                await answer.write(_event({"choices": [choice]}))
        if self._counts:
            usage = {"prompt_tokens": prompt, "completion_tokens": body["max_tokens"]}
            await answer.write(_event({"choices": [], "usage": usage}))
        await answer.write(b"data: [DONE]\n\n")
        return answer


def _event(said: Any) -> bytes:
    return b"data: " + json.dumps(said).encode() + b"\n\n"


def _tokens(url: str) -> int:
    with Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2]))) as picture:
        return 2 + (picture.width // CELL) * (picture.height // CELL)


@contextmanager
def playing(engine: PlayedEngine) -> Iterator[str]:
    """Its URL."""
    addresses: list[int] = []
    listening = asyncio.Event()

    async def run() -> None:
        app = web.Application(client_max_size=64 << 20)
        app.add_routes([web.post(CHAT_PATH, engine.chat), web.get("/v1/models", engine.models)])
        runner = web.AppRunner(app, shutdown_timeout=0.1)
        await runner.setup()
        try:
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            addresses.append(runner.addresses[0][1])
            listening.set()
            await asyncio.Event().wait()
        finally:
            await runner.cleanup()

    async def wait_listening() -> None:
        await listening.wait()

    thread = LoopThread("played engine", run)
    try:
        thread.call(wait_listening, PATIENCE_S)
        yield f"http://127.0.0.1:{addresses[0]}"
    finally:
        thread.stop(PATIENCE_S)
