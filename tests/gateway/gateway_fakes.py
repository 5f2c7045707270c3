"""A whole gateway on a real port between scripted neighbours: engines over real HTTP, and a scheduler behind the link's
channel.
"""

import asyncio
import contextlib
import itertools
import json
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec
from aiohttp import ClientSession, web
from chat_inputs import chat_body as chat_body
from chat_inputs import data_url as data_url
from chat_inputs import encoded as encoded
from chat_inputs import image_part as image_part
from chat_inputs import png as png
from text_engine import TextEngine, text_of

from chiasm.config import GatewayConfig
from chiasm.gateway.addresses import Reach
from chiasm.gateway.app import DRAIN, ServingFacts, make_app, start_gateway
from chiasm.gateway.link import SchedulerLink
from chiasm.messages import (
    AskStatus,
    Decode,
    DecodeFailed,
    Encode,
    EncodeDone,
    EncodeFailed,
    Presence,
    Reject,
    RejectReason,
    Status,
    Submit,
    ToGateway,
    WorkerStatus,
)
from chiasm.nouns import RequestId, Role
from chiasm.telemetry.records import EngineCall, EngineRecords
from scheduler.core import Core

TOKEN = "cluster-token"
FACTS = ServingFacts(
    model="demo",
    model_revision="r1",
    pixels_per_token=784,
    image_tokens=(1, 16_384),
    max_model_len=4096,
    created=1_700_000_000,
    image_pixels=(3136, 12_845_056),
)
PATIENCE_S = 10.0
HEARTBEAT_S = 600.0


def events(*payloads: Any, done: bool = True) -> bytes:
    lines = [f"data: {json.dumps(payload)}\n\n" for payload in payloads]
    return "".join([*lines, "data: [DONE]\n\n"] if done else lines).encode()


def chunk(content: str, **more: Any) -> dict[str, Any]:
    choice = {"index": 0, "delta": {"content": content}, "finish_reason": None}
    return {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "demo", "choices": [choice], **more}


OPENING = {**chunk(""), "choices": [{"index": 0, "delta": {"role": "assistant", "content": ""}, "logprobs": None}]}
ERROR = {"error": {"message": "Internal server error", "type": "InternalServerError", "param": None, "code": 500}}
USAGE = {**chunk(""), "choices": [], "usage": {"prompt_tokens": 5, "completion_tokens": 7, "total_tokens": 12}}

ENTRY = {"item_indices": [0], "metadata": {"g": [1]}, "endpoint": "tcp://h:1", "shape": [2, 4], "dtype": "float32"}

Behaviour = Callable[[web.Request, dict[str, Any]], Awaitable[web.StreamResponse]]


@dataclass
class Call:
    path: str
    headers: Mapping[str, str]
    body: dict[str, Any]


@dataclass
class FakeEngine:
    """Answers calls with `behaviours` in turn, and with `usual` when there are none left."""

    usual: Behaviour
    behaviours: list[Behaviour] = field(default_factory=list)
    calls: list[Call] = field(default_factory=list)
    failures: list[dict[str, str]] = field(default_factory=list)
    report: bytes | None = None  # instead of the failures, and of the text of tokens
    transfers_asked: list[str] = field(default_factory=list)
    detokenized: list[list[int]] = field(default_factory=list)
    page: bytes | None = None  # its metrics; none by itself
    page_asked: list[Mapping[str, str]] = field(default_factory=list)  # the headers of each
    page_held: asyncio.Event | None = None  # until then it does not give its page
    aborted: asyncio.Event = field(default_factory=asyncio.Event)
    remembered: list[EngineCall] = field(default_factory=list)
    tells: Callable[[web.Request], Awaitable[web.Response]] | None = None  # instead of what it remembers
    records_asked: list[str] = field(default_factory=list)
    keys_asked: list[list[str]] = field(default_factory=list)  # with each of these
    url: str = ""

    async def start(self) -> None:
        app = web.Application(client_max_size=64 << 20)
        app.add_routes(
            [
                web.post("/v1/chat/completions", self._handle),
                web.post("/v1/completions", self._handle),
                web.post("/detokenize", self._detokenize),
                web.get("/v1/chiasm/transfers/{request}", self._transfers),
                web.get("/v1/chiasm/records", self._records),
                web.get("/metrics", self._metrics),
            ]
        )
        self.runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.1)
        await self.runner.setup()
        await web.TCPSite(self.runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{self.runner.addresses[0][1]}"

    async def stop(self) -> None:
        await self.runner.cleanup()

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        self.calls.append(Call(request.path, request.headers, body))
        behaviour = self.behaviours.pop(0) if self.behaviours else self.usual
        arrived = time.time()
        try:
            return await behaviour(request, body)
        except asyncio.CancelledError:
            self.aborted.set()
            raise
        finally:
            call, ended = request.headers["X-Request-Id"], time.time()
            self.remembered.append(EngineCall(call, arrived, arrived, arrived, ended, ended, 9, 2, 7, 0, "stop"))

    async def _records(self, request: web.Request) -> web.Response:
        assert request.headers["Authorization"] == f"Bearer {TOKEN}"
        if self.tells is not None:
            return await self.tells(request)
        about = request.query.get("call")  # else everything since then
        self.records_asked.append(about or request.query["since"])
        self.keys_asked.append(request.query.getall("key", []))
        calls = tuple(call for call in self.remembered if about in (None, call.call.partition(".")[0]))
        return web.Response(body=msgspec.json.encode(EngineRecords(time.time(), calls)))

    async def _detokenize(self, request: web.Request) -> web.Response:
        assert request.headers["Authorization"] == f"Bearer {TOKEN}"
        self.detokenized.append((await request.json())["tokens"])
        if self.report is not None:
            return web.Response(body=self.report)
        return web.json_response({"prompt": text_of(self.detokenized[-1])})

    async def _transfers(self, request: web.Request) -> web.Response:
        assert request.headers["Authorization"] == f"Bearer {TOKEN}"
        self.transfers_asked.append(request.match_info["request"])
        if self.report is not None:
            return web.Response(body=self.report)
        return web.json_response({"request": request.match_info["request"], "failed": self.failures})

    async def _metrics(self, request: web.Request) -> web.Response:
        self.page_asked.append(request.headers)
        if self.page is None:
            raise web.HTTPNotFound
        if self.page_held is not None:
            await self.page_held.wait()
        return web.Response(body=self.page, headers={"Content-Type": "text/plain; version=0.0.4"})


async def encodes(request: web.Request, body: dict[str, Any]) -> web.Response:
    [part] = body["messages"][0]["content"]
    entry = {
        "item_indices": [0],
        "metadata": {"image_grid_thw": [1, 2, 4]},
        "endpoint": "tcp://127.0.0.1:5555",
        "shape": [2, 64],
        "dtype": "float32",
    }
    return web.json_response({"id": "x", "choices": [], "ec_transfer_params": {f"key-{part['uuid'][:8]}": entry}})


async def answers(request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
    if body.get("stream"):
        return await replies_stream(events(OPENING, chunk("he"), chunk("llo"), USAGE))(request, body)
    usage = {"prompt_tokens": 5, "completion_tokens": 2, "total_tokens": 7}
    if request.path == "/v1/completions":
        choices: list[dict[str, Any]] = [{"index": 0, "text": "hello", "finish_reason": "stop"}]
        kind = "text_completion"
    else:
        message = {"role": "assistant", "content": "hello"}
        choices = [{"index": 0, "message": message, "finish_reason": "stop"}]
        kind = "chat.completion"
    return web.json_response(
        {"id": "c", "object": kind, "created": 1, "model": "demo", "choices": choices, "usage": usage}
    )


def replies(status: int, content: Any) -> Behaviour:
    async def behaviour(request: web.Request, body: dict[str, Any]) -> web.Response:
        return web.json_response(content, status=status)

    return behaviour


def replies_stream(
    *pieces: bytes, cut: bool = False, then: asyncio.Event | None = None, last: bytes = b""
) -> Behaviour:
    """Sends the pieces one by one; then waits for an event, sends the last one, or has the connection cut."""

    async def behaviour(request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream; charset=utf-8"})
        await response.prepare(request)
        for piece in pieces:
            await response.write(piece)
            await asyncio.sleep(0)
        if then is not None:
            await then.wait()
        await response.write(last)
        if cut:
            assert request.transport is not None
            request.transport.close()
        return response

    return behaviour


def generates(
    text: TextEngine, events: int | None = None, *, cut: bool = False, then: asyncio.Event | None = None
) -> Behaviour:
    """Streams what `text` says to the request, or the first so many events of that; `cut` and `then` as above."""

    async def behaviour(request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        pieces = text.events(request.path, body)[:events]
        return await replies_stream(*pieces, cut=cut, then=then)(request, body)

    return behaviour


async def hangs_up(request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
    assert request.transport is not None
    request.transport.close()
    return web.Response()


def hangs(seen: asyncio.Event) -> Behaviour:
    async def behaviour(request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        seen.set()
        await asyncio.Event().wait()
        raise AssertionError

    return behaviour


class CoreChannel:
    """A channel whose far end is the scheduler's core itself. `told_workers` is what it has told them."""

    def __init__(self, core: Core) -> None:
        self.core = core
        self.told_workers: list[Any] = []
        self._heard: defaultdict[type, asyncio.Event] = defaultdict(asyncio.Event)
        self._clock = itertools.count()
        self._inbox: asyncio.Queue[Any] = asyncio.Queue()

    def send(self, message: Any) -> bool:
        if isinstance(message, Presence):
            return True
        for decision in self.core.handle(message, next(self._clock) / 1000):
            if isinstance(decision, ToGateway):
                self._inbox.put_nowait(decision)
            else:
                self.told_workers.append(decision)
        self.core.check_integrity()
        self._heard[type(message)].set()
        return True

    async def heard(self, kind: type) -> None:
        """Waits for the first message of that kind."""
        await self._heard[kind].wait()

    async def receive(self) -> Any:
        return await self._inbox.get()

    @property
    def status(self) -> Status:
        return self.core.status(RequestId("test"), next(self._clock) / 1000)


class FakeScheduler:
    """The far end of the link's channel. Decides like the real one in miniature: every encode on the first encoder,
    retries on the next; `decide` may be replaced.
    """

    def __init__(self, encoders: list[FakeEngine], decoders: list[FakeEngine]) -> None:
        self.encoders = encoders
        self.decoders = decoders
        self.role = Role.DECODER
        self.ready = True
        self.workers: tuple[WorkerStatus, ...] = ()
        self.sent: list[Any] = []  # about requests
        self.presence: list[Any] = []
        self.decide: Callable[[Any], list[Any]] = self.usual
        self.attempts_allowed = 3
        self._news = asyncio.Condition()
        self._inbox: asyncio.Queue[Any] = asyncio.Queue()
        self._submits: dict[str, Submit] = {}
        self._held: dict[str, Any] = {}
        self._attempts: dict[tuple[type, str], int] = defaultdict(int)
        self._tasks: set[asyncio.Task[None]] = set()

    def send(self, message: Any) -> bool:
        if isinstance(message, Presence):
            self.presence.append(message)
        else:
            self.sent.append(message)
            self.push(*self.decide(message))
        task = asyncio.ensure_future(self._tell())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return True

    async def receive(self) -> Any:
        return await self._inbox.get()

    def push(self, *decisions: Any) -> None:
        for decision in decisions:
            self._inbox.put_nowait(decision)

    def of(self, kind: type) -> list[Any]:
        return [message for message in (*self.sent, *self.presence) if isinstance(message, kind)]

    async def wait_for(self, kind: type, count: int = 1) -> Any:
        async with asyncio.timeout(PATIENCE_S), self._news:
            await self._news.wait_for(lambda: len(self.of(kind)) >= count)
        return self.of(kind)[count - 1]

    async def _tell(self) -> None:
        async with self._news:
            self._news.notify_all()

    def usual(self, message: Any) -> list[Any]:
        match message:
            case Submit():
                self._submits[message.request] = message
                return self._advance(message.request)
            case EncodeDone():
                self._held[message.embedding.uuid] = message.embedding
                return self._advance(message.request, encode=False)
            case EncodeFailed(request=request):
                if not message.retryable:
                    return [Reject(request, RejectReason.BAD_ITEM, message.reason)]
                return self._again(message)
            case DecodeFailed(request=request):
                if not message.retryable:
                    return [Reject(request, RejectReason.DECODE, message.reason)]
                for uuid in message.lost:
                    self._held.pop(uuid, None)
                return self._again(message)
            case AskStatus(request=request):
                return [Status(request, self.ready, self.workers, 0, 0, 0, {"submitted": len(self._submits)})]
        return []

    def _again(self, failed: EncodeFailed | DecodeFailed) -> list[Any]:
        self._attempts[type(failed), failed.request] += 1
        if self._attempts[type(failed), failed.request] >= self.attempts_allowed:
            return [Reject(failed.request, RejectReason.ATTEMPTS, failed.reason)]
        return self._advance(failed.request)

    def _advance(self, request: Any, encode: bool = True) -> list[Any]:
        uuids = list(dict.fromkeys(item.uuid for item in self._submits[request].items))
        if self.role is Role.DECODER and (missing := [uuid for uuid in uuids if uuid not in self._held]):
            index = self._attempts[EncodeFailed, request] % len(self.encoders)
            url = self.encoders[index].url
            return [Encode(request, uuid, f"encoder-{index}", url) for uuid in missing] if encode else []
        embeddings = tuple(self._held[uuid] for uuid in uuids) if self.role is Role.DECODER else ()
        index = self._attempts[DecodeFailed, request] % len(self.decoders)
        return [Decode(request, f"decoder-{index}", self.role, self.decoders[index].url, embeddings)]


@contextlib.asynccontextmanager
async def running(*engines: FakeEngine) -> Any:
    for engine in engines:
        await engine.start()
    try:
        yield
    finally:
        for engine in engines:
            await engine.stop()


@dataclass
class Cluster:
    scheduler: FakeScheduler
    encoders: list[FakeEngine]
    decoders: list[FakeEngine]
    url: str
    client: ClientSession
    drain: Callable[[float], Awaitable[None]]

    async def chat(self, body: Any) -> tuple[int, Any, Any]:
        """Status, JSON and headers of one chat request."""
        async with self.client.post("/v1/chat/completions", json=body) as answer:
            return answer.status, await answer.json(), answer.headers

    async def stream(self, body: Any) -> tuple[int, bytes]:
        async with self.client.post("/v1/chat/completions", json=body | {"stream": True}) as answer:
            return answer.status, await answer.read()

    async def metrics(self) -> str:
        async with self.client.get("/metrics") as answer:
            return await answer.text()


@contextlib.asynccontextmanager
async def a_cluster(reach: Reach | None = None, **config: Any) -> AsyncIterator[Cluster]:
    encoders = [FakeEngine(encodes), FakeEngine(encodes)]
    decoders = [FakeEngine(answers), FakeEngine(answers)]
    async with running(*encoders, *decoders):
        scheduler = FakeScheduler(encoders, decoders)
        settings = GatewayConfig(port=0, **config)
        runner = await start_gateway(
            make_app(FACTS, settings, SchedulerLink(scheduler, HEARTBEAT_S), TOKEN, reach), settings
        )
        url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        try:
            async with ClientSession(url) as client:
                yield Cluster(scheduler, encoders, decoders, url, client, runner.app[DRAIN])
        finally:
            await runner.cleanup()
