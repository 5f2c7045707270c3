"""A server in a thread that behaves as vLLM does, by a script: each step of an engine gives every stream a token, and
lasts longer for the pictures that are encoded and the prompt tokens that are prefilled in it.
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
LIMIT = "At most {} image(s) may be provided in one prompt."


@dataclass
class Request:
    """One that runs or waits."""

    text_tokens: int
    picture_tokens: int
    wanted: int
    events: asyncio.Queue[bool] = field(default_factory=asyncio.Queue)  # a token each; True: the last
    given: int = 0
    prefilled: int = 0

    @property
    def prompt_tokens(self) -> int:
        return self.text_tokens + self.picture_tokens


@dataclass
class Engine:
    """Its running requests."""

    running: list[Request] = field(default_factory=list)
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    generated: int = 0


@dataclass
class StallingServer:
    """Costs are milliseconds for 1,000 tokens."""

    encode: float
    prefill: float
    gap_ms: float = 4.0
    engine_count: int = 1  # requests go to them by turns, or where vLLM's header says
    chunk: int = 1_000_000  # tokens that a step prefills
    piece: int = 1  # tokens in one event of an answer
    flush: int = 1  # events that are written at once
    role_at_once: bool = False  # names the assistant's role as a request comes, as some servers do, not with a token
    metrics: bool = True
    usage: bool = True
    most_images: int = 100  # in one request
    short: int = 1_000_000  # tokens after which an answer ends, whatever was asked for
    fails_from: int | None = None  # this request, counted from 1, and all later ones are answered with an error
    slow_from: int | None = None  # this one and all later ones take ten times as long
    hangs_from: int | None = None  # this one and all later ones are never answered
    fixed_tokens: int | None = None  # of each picture, whatever its size
    waiting: int = 0  # requests of others, for ever
    taken: float = 0.0  # of the KV cache, by others
    preempts_from: int | None = None  # request from which on others are preempted
    models: tuple[str, ...] = ("scripted",)
    owner: str = "vllm"  # of them
    url: str = ""
    asked: int = 0
    refused: int = 0
    begun: list[tuple[float, bool]] = field(default_factory=list)  # when each request came, and whether it is a stream
    models_asked: set[str] = field(default_factory=set)
    pictures: list[tuple[int, int]] = field(default_factory=list)
    keys: set[str | None] = field(default_factory=set)
    engines: list[Engine] = field(default_factory=list)
    most_at_once: int = 0
    broken_off: int = 0
    listening: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self.engines = [Engine() for _ in range(self.engine_count)]

    @property
    def running(self) -> list[Request]:
        return [request for engine in self.engines for request in engine.running]

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
            async with asyncio.TaskGroup() as group:
                for engine in self.engines:
                    group.create_task(self._steps(engine))
        finally:
            await runner.cleanup()

    async def wait_listening(self) -> None:
        await self.listening.wait()

    async def _steps(self, engine: Engine) -> None:
        while True:
            while not engine.running:
                engine.changed.clear()
                await engine.changed.wait()
            step = list(engine.running)
            room, cost_s = self.chunk, self.gap_ms / 1000
            for request in step:
                part = min(room, request.prompt_tokens - request.prefilled)
                if part and not request.prefilled:
                    cost_s += self.encode * request.picture_tokens / 1e6
                request.prefilled += part
                room -= part
                cost_s += self.prefill * part / 1e6
            slow = self.slow_from is not None and self.asked >= self.slow_from
            await asyncio.sleep(10 * cost_s if slow else cost_s)
            for request in step:
                if request.prefilled == request.prompt_tokens and request in engine.running:
                    request.given += 1
                    engine.generated += 1
                    last = request.given >= min(request.wanted, self.short)
                    if last:
                        engine.running.remove(request)
                    request.events.put_nowait(last)

    async def _chat(self, request: web.Request) -> web.StreamResponse:
        self.asked += 1
        self.keys.add(request.headers.get("Authorization"))
        body = await request.json()
        self.begun.append((time.monotonic(), body["max_tokens"] > 1))
        self.models_asked.add(body["model"])
        if self.fails_from is not None and self.asked >= self.fails_from:
            self.refused += 1
            return web.json_response({"error": {"message": "the card is on fire"}}, status=500)
        if self.hangs_from is not None and self.asked >= self.hangs_from:
            await asyncio.sleep(PATIENCE_S)
        mine = self._read(body)
        if mine is None:
            return web.json_response({"error": {"message": LIMIT.format(self.most_images)}}, status=400)
        rank = request.headers.get("X-data-parallel-rank")
        engine = self.engines[self.asked % len(self.engines) if rank is None else int(rank)]
        engine.running.append(mine)
        self.most_at_once = max(self.most_at_once, len(self.running))
        engine.changed.set()
        answer = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        try:
            await self._stream(request, mine, answer)
        except (asyncio.CancelledError, ConnectionError):
            self.broken_off += 1
            raise
        finally:
            if mine in engine.running:
                engine.running.remove(mine)
        told = {"prompt_tokens": mine.prompt_tokens, "completion_tokens": mine.given} if self.usage else None
        await answer.write(b"data: " + json.dumps({"choices": [], "usage": told}).encode() + b"\n\ndata: [DONE]\n\n")
        return answer

    async def _stream(self, request: web.Request, mine: Request, answer: web.StreamResponse) -> None:
        last, tokens, held = False, 0, b""
        first = None if self.role_at_once else await mine.events.get()
        await answer.prepare(request)
        await answer.write(_event({"role": "assistant"}, None))
        while not last:
            last = await mine.events.get() if first is None else first
            first = None
            tokens += 1
            if last or tokens % self.piece == 0:
                held += _event({"content": "a"}, "length" if last else None)
            if last or tokens % (self.piece * self.flush) == 0:
                await answer.write(held)
                held = b""

    def _read(self, body: dict[str, object]) -> Request | None:
        [message] = body["messages"]  # type: ignore[misc, attr-defined]
        content = message["content"]
        parts = content if isinstance(content, list) else [{"type": "text", "text": content}]
        text = sum(len(part["text"].split()) for part in parts if part["type"] == "text")
        urls = [part["image_url"]["url"] for part in parts if part["type"] == "image_url"]
        if len(urls) > self.most_images:
            return None
        pictures = [self._picture(url) for url in urls]
        return Request(TEMPLATE + text, sum(pictures), int(body["max_tokens"]))  # type: ignore[call-overload]

    def _picture(self, url: str) -> int:
        with Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2]))) as opened:
            self.pictures.append(opened.size)
            return self.fixed_tokens or round(opened.width * opened.height / PIXELS_PER_TOKEN)

    async def _models(self, _request: web.Request) -> web.Response:
        each = {"max_model_len": 8192, "root": "/nowhere", "owned_by": self.owner}
        return web.json_response({"data": [{"id": name, **each} for name in self.models]})

    async def _metrics(self, _request: web.Request) -> web.Response:
        if not self.metrics:
            raise web.HTTPNotFound
        preempted = int(self.preempts_from is not None and self.asked >= self.preempts_from)
        lines = []
        for number, engine in enumerate(self.engines):
            blocks = sum(-(-(each.prefilled + each.given) // BLOCK) for each in engine.running)
            for name, value in {
                "num_requests_running": len(engine.running),
                "num_requests_waiting": self.waiting,
                "kv_cache_usage_perc": self.taken + blocks / (BLOCKS - 1),
                "generation_tokens_total": engine.generated,
                "num_preemptions_total": preempted,
                "mm_cache_queries_total": len(self.pictures),
                "mm_cache_hits_total": 0,
            }.items():
                lines.append(f'vllm:{name}{{engine="{number}"}} {value}')
            told = f'block_size="{BLOCK}",num_gpu_blocks="{BLOCKS * len(self.engines)}",cache_dtype="auto"'
            lines.append(f'vllm:cache_config_info{{engine="{number}",{told}}} 1')
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
