"""A server in a thread that behaves as vLLM does, by a script: each step gives every stream a token, and lasts longer
for the pictures that are encoded and the prompt tokens that are prefilled in it.
"""

import asyncio
import base64
import io
import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from aiohttp import web
from PIL import Image

from chiasm.api_paths import CHAT_PATH
from chiasm.loop_thread import LoopThread

PATIENCE_S = 20.0
TEMPLATE = 5  # tokens
PIXELS_PER_TOKEN = 28 * 28
BLOCKS, BLOCK = 10_000, 16


@dataclass
class Request:
    """One that runs or waits."""

    text_tokens: int
    picture_tokens: int
    wanted: int
    events: asyncio.Queue[bool] = field(default_factory=asyncio.Queue)  # a token each; True: the last
    given: int = 0

    @property
    def prompt_tokens(self) -> int:
        return self.text_tokens + self.picture_tokens


@dataclass
class StallingServer:
    """Costs are milliseconds for 1,000 tokens."""

    encode: float
    prefill: float
    gap_ms: float = 4.0
    metrics: bool = True
    usage: bool = True
    fails_from: int | None = None  # this request, counted from 1, and all later ones are answered with an error
    fixed_tokens: int | None = None  # of each picture, whatever its size
    waiting: int = 0  # requests of others, for ever
    url: str = ""
    asked: int = 0
    refused: int = 0
    pictures: list[tuple[int, int]] = field(default_factory=list)
    keys: set[str | None] = field(default_factory=set)
    running: list[Request] = field(default_factory=list)
    most_at_once: int = 0
    broken_off: int = 0
    generated: int = 0
    ended: list[Request] = field(default_factory=list)
    prefill_s: float = 0.0
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    listening: asyncio.Event = field(default_factory=asyncio.Event)

    async def run(self) -> None:
        app = web.Application(client_max_size=64 << 20)
        app.add_routes(
            [
                web.post(CHAT_PATH, self._chat),
                web.get("/v1/models", self._models),
                web.get("/metrics", self._metrics),
            ]
        )
        runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.1)
        await runner.setup()
        try:
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            self.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
            self.listening.set()
            await self._steps()
        finally:
            await runner.cleanup()

    async def wait_listening(self) -> None:
        await self.listening.wait()

    async def _steps(self) -> None:
        while True:
            while not self.running:
                self.changed.clear()
                await self.changed.wait()
            step = list(self.running)
            new = [request for request in step if request.given == 0]
            prompt = sum(request.prompt_tokens for request in new)
            extra_s = (self.encode * sum(each.picture_tokens for each in new) + self.prefill * prompt) / 1e6
            await asyncio.sleep(self.gap_ms / 1000 + extra_s)
            for request in step:
                request.given += 1
                self.generated += 1
                if request in new:
                    self.prefill_s += self.gap_ms / 1000 + extra_s
                last = request.given >= request.wanted
                if last and request in self.running:
                    self.running.remove(request)
                    self.ended.append(request)
                request.events.put_nowait(last)

    async def _chat(self, request: web.Request) -> web.StreamResponse:
        self.asked += 1
        self.keys.add(request.headers.get("Authorization"))
        body = await request.json()
        if self.fails_from is not None and self.asked >= self.fails_from:
            self.refused += 1
            return web.json_response({"error": {"message": "the card is on fire"}}, status=500)
        mine = self._admitted(body)
        answer = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        try:
            last = False
            while not last:
                last = await mine.events.get()
                if not answer.prepared:
                    await answer.prepare(request)
                    await answer.write(_event({"role": "assistant"}, None))
                await answer.write(_event({"content": "a"}, "length" if last else None))
        except (asyncio.CancelledError, ConnectionError):
            self.broken_off += 1
            raise
        finally:
            if mine in self.running:
                self.running.remove(mine)
        told = {"prompt_tokens": mine.prompt_tokens, "completion_tokens": mine.given} if self.usage else None
        await answer.write(b"data: " + json.dumps({"choices": [], "usage": told}).encode() + b"\n\ndata: [DONE]\n\n")
        return answer

    def _admitted(self, body: dict[str, object]) -> Request:
        [message] = body["messages"]  # type: ignore[misc, attr-defined]
        content = message["content"]
        parts = content if isinstance(content, list) else [{"type": "text", "text": content}]
        text = sum(len(part["text"].split()) for part in parts if part["type"] == "text")
        pictures = [self._picture(part["image_url"]["url"]) for part in parts if part["type"] == "image_url"]
        mine = Request(TEMPLATE + text, sum(pictures), int(body["max_tokens"]))  # type: ignore[call-overload]
        self.running.append(mine)
        self.most_at_once = max(self.most_at_once, len(self.running))
        self.changed.set()
        return mine

    def _picture(self, url: str) -> int:
        with Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2]))) as opened:
            self.pictures.append(opened.size)
            return self.fixed_tokens or round(opened.width * opened.height / PIXELS_PER_TOKEN)

    async def _models(self, _request: web.Request) -> web.Response:
        return web.json_response({"data": [{"id": "scripted", "max_model_len": 8192, "root": "/nowhere"}]})

    async def _metrics(self, _request: web.Request) -> web.Response:
        if not self.metrics:
            raise web.HTTPNotFound
        blocks = sum(-(-(each.prompt_tokens + each.given) // BLOCK) for each in self.running)
        lines = [
            f"vllm:num_requests_running {len(self.running)}",
            f"vllm:num_requests_waiting {self.waiting}",
            f"vllm:kv_cache_usage_perc {blocks / BLOCKS}",
            f"vllm:generation_tokens_total {self.generated}",
            f"vllm:request_prefill_time_seconds_sum {self.prefill_s}",
            f"vllm:request_prefill_time_seconds_count {len(self.ended)}",
            "vllm:request_queue_time_seconds_sum 0",
            f"vllm:request_prompt_tokens_sum {sum(each.prompt_tokens for each in self.ended)}",
            f'vllm:cache_config_info{{block_size="{BLOCK}",num_gpu_blocks="{BLOCKS}",cache_dtype="auto"}} 1',
        ]
        return web.Response(text="\n".join(lines) + "\n")


def _event(delta: dict[str, str], finish_reason: str | None) -> bytes:
    choice = {"index": 0, "delta": delta, "finish_reason": finish_reason}
    return b"data: " + json.dumps({"choices": [choice]}).encode() + b"\n\n"


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@contextmanager
def running(server: StallingServer) -> Iterator[None]:
    thread = LoopThread("stalling server", server.run)
    try:
        thread.call(server.wait_listening, PATIENCE_S)
        yield
    finally:
        thread.stop(PATIENCE_S)
