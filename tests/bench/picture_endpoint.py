"""An endpoint that answers chat requests as the gateway does, in a thread, and remembers what came."""

import asyncio
import base64
import io
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import cycle

from aiohttp import web
from PIL import Image

from chiasm.api_paths import CHAT_PATH
from chiasm.loop_thread import LoopThread

FIRST = b'data: {"choices": [{"index": 0, "delta": {"role": "assistant", "content": ""}}]}\n\n'
PATIENCE_S = 20.0


@dataclass
class PictureEndpoint:
    """The first `held` requests are answered only when another one has come; each takes `busy_s`."""

    held: int = 0
    busy_s: float = 0.0
    rest: bytes = b"data: [DONE]\n\n"
    status: int = 200
    url: str = ""
    pictures: list[tuple[int, int]] = field(default_factory=list)
    most_at_once: int = 0
    _under_way: int = 0
    _more: asyncio.Event = field(default_factory=asyncio.Event)
    _listening: asyncio.Event = field(default_factory=asyncio.Event)
    _encoders: Iterator[str] = field(default_factory=lambda: cycle(("encoder-0", "encoder-0", "encoder-1")))

    async def run(self) -> None:
        app = web.Application(client_max_size=64 << 20)
        app.add_routes([web.post(CHAT_PATH, self._chat), web.get("/v1/chiasm/requests/{id}/reasons", self._reasons)])
        runner = web.AppRunner(app)
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

    async def _chat(self, request: web.Request) -> web.StreamResponse:
        url = (await request.json())["messages"][0]["content"][0]["image_url"]["url"]
        with Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2]))) as picture:
            self.pictures.append(picture.size)
        self._under_way += 1
        self.most_at_once = max(self.most_at_once, self._under_way)
        if len(self.pictures) > self.held:
            self._more.set()
        await self._more.wait()
        await asyncio.sleep(self.busy_s)
        answer = web.StreamResponse(status=self.status, headers={"X-Request-Id": str(len(self.pictures))})
        await answer.prepare(request)
        await answer.write(FIRST + self.rest)
        self._under_way -= 1
        return answer

    async def _reasons(self, _request: web.Request) -> web.Response:
        elsewhere = {"what": "encode placed", "worker": "lost", "numbers": {"owed": 0.0, "tokens": 1.0}}
        placed = {"what": "encode placed", "worker": next(self._encoders), "numbers": {"owed": 0.0, "tokens": 40.0}}
        reasons = [{"what": "admitted"}, elsewhere, placed, {"what": "ended"}]
        return web.json_response({"reasons": reasons})


@contextmanager
def running(endpoint: PictureEndpoint) -> Iterator[PictureEndpoint]:
    thread = LoopThread("endpoint", endpoint.run)
    try:
        thread.call(endpoint.listening, PATIENCE_S)
        yield endpoint
    finally:
        thread.stop(PATIENCE_S)
