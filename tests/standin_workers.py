"""The real workers, whose engines only look like one: they are ready at once, and have no model.

Not a test: Ray imports it where it places them. An answer is the numbers from 0 on, one a token, by the image that the
node has (IMAGE in its environment). An embedding is a promise of its encoder's: a decoder asks for it where it is said
to be, and fails if nobody is there.
"""

import asyncio
import hashlib
import json
import os
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from aiohttp import ClientError, ClientSession, web

import chiasm.membership
import chiasm.supervisor
from chiasm.api_paths import CHAT_PATH
from chiasm.engine import EngineFailed, EngineSpec
from chiasm.loop_thread import LoopThread
from chiasm.membership import Membership
from chiasm.nouns import Role
from decoder.worker import DecoderWorker
from encoder.worker import EncoderWorker

ENCODE_S, TOKEN_S = 0.05, 0.02
PATIENCE_S = 20.0
SHAPE = [4, 8]
IMAGE = os.environ.get("IMAGE", "old")
OTHER_VERSION, BROKEN = "of another version", "broken"


class StandInEngine:
    """Serves until it is stopped."""

    stage = "ready"

    def __init__(self, spec: EngineSpec, log: Callable[[str], None]) -> None:
        self.spec = spec
        self.runtime = Path(tempfile.mkdtemp())  # in TMPDIR, which the test removes
        self.url = ""
        self._requests = 0
        self._lost: dict[str, list[dict[str, str]]] = {}  # embeddings that were not there, by the request
        self._ended = threading.Event()
        self._listening = asyncio.Event()
        self._loop = LoopThread(f"engine {spec.name}", self._serve)
        self._loop.call(self._listening.wait, PATIENCE_S)

    def wait_ready(self, timeout_s: float) -> None: ...

    def answers(self) -> bool:
        return not self._ended.is_set()

    def kv_cache_tokens(self) -> int:
        return 100_000

    def get(self, path: str, timeout_s: float = 10.0) -> str:
        if path == "/v1/chiasm/report":
            return json.dumps([{"connector": {}}])
        lines = (f'vllm:num_requests_{what}{{engine="0"}} {count}' for what, count in self._counts().items())
        return "\n".join(lines)

    def _counts(self) -> dict[str, int]:
        return {"running": self._requests, "waiting": 0}

    def wait(self) -> int:
        self._ended.wait()
        return 0

    def failure(self) -> EngineFailed:
        return EngineFailed(f"{self.spec.name} ended")

    def stop(self) -> None:
        self._loop.stop(PATIENCE_S)
        self._ended.set()

    # -- its server --------------------------------------------------------------------------------------------------

    async def _serve(self) -> None:
        app = web.Application(client_max_size=64 << 20)
        app.add_routes(
            [
                web.post(CHAT_PATH, self._chat),
                web.get("/embeddings/{key}", self._embedding),
                web.get("/v1/chiasm/transfers/{request}", self._transfers),
            ]
        )
        runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.1)
        await runner.setup()
        try:
            await web.TCPSite(runner, self.spec.host, 0).start()
            self._port = runner.addresses[0][1]
            self.url = f"http://{self.spec.host}:{self._port}"
            async with ClientSession() as self._session:
                self._listening.set()
                await asyncio.Event().wait()
        finally:
            await runner.cleanup()

    async def _chat(self, request: web.Request) -> web.StreamResponse:
        if request.headers.get("Authorization") != f"Bearer {self.spec.token}":
            raise web.HTTPUnauthorized
        body = await request.json()
        self._requests += 1
        try:
            if self.spec.role is Role.ENCODER:
                return await self._encode(body)
            if lost := await self._fetch(body):
                self._lost[request.headers["X-Request-Id"]] = lost
                return web.json_response({"error": {"message": "Internal server error"}}, status=500)
            return await self._answer(request, body)
        finally:
            self._requests -= 1

    async def _encode(self, body: dict[str, Any]) -> web.Response:
        await asyncio.sleep(ENCODE_S)
        [part] = body["messages"][0]["content"]
        key = hashlib.sha256(part["uuid"].encode()).hexdigest()[:16]
        entry = {
            "item_indices": [0],
            "metadata": {"image_grid_thw": [1, 4, 4]},
            "endpoint": f"tcp://{self.spec.host}:{self._port}",
            "shape": SHAPE,
            "dtype": "float32",
        }
        return web.json_response({"id": "x", "choices": [], "ec_transfer_params": {key: entry}})

    async def _embedding(self, _request: web.Request) -> web.Response:
        return web.Response()

    async def _fetch(self, body: dict[str, Any]) -> list[dict[str, str]]:
        """The embeddings of a request that are not where they should be."""
        lost = []
        for key, item in body.get("ec_transfer_params", {"items": {}})["items"].items():
            address = item["endpoint"].removeprefix("tcp://")
            try:
                async with self._session.get(f"http://{address}/embeddings/{key}") as answer:
                    await answer.read()
            except (ClientError, OSError) as error:
                lost.append({"key": key, "code": "unreachable", "detail": str(error)})
        return lost

    async def _transfers(self, request: web.Request) -> web.Response:
        about = request.match_info["request"]
        return web.json_response({"request": about, "failed": self._lost.pop(about, [])})

    async def _answer(self, request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        count = body["max_tokens"]
        if not body.get("stream"):
            await asyncio.sleep(count * TOKEN_S)
            message = {"role": "assistant", "content": _words(range(count))}
            choices = [{"index": 0, "message": message, "finish_reason": "length"}]
            usage = {"prompt_tokens": 9, "completion_tokens": count, "total_tokens": 9 + count}
            return web.json_response(_body("chat.completion", choices) | {"usage": usage})
        answer = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await answer.prepare(request)
        await answer.write(_event({"role": "assistant", "content": ""}, None))
        for number in range(count):
            await asyncio.sleep(TOKEN_S)
            reason = "length" if number == count - 1 else None
            await answer.write(_event({"content": _words([number])}, reason))
        await answer.write(b"data: [DONE]\n\n")
        return answer


def _words(numbers: Any) -> str:
    return "".join(f"{number} " for number in numbers)


def _body(kind: str, choices: list[dict[str, Any]]) -> dict[str, Any]:
    return {"id": "c", "object": kind, "created": 1, "model": "m", "system_fingerprint": IMAGE, "choices": choices}


def _event(delta: dict[str, str], reason: str | None) -> bytes:
    choice = {"index": 0, "delta": delta, "finish_reason": reason}
    return b"data: " + json.dumps(_body("chat.completion.chunk", [choice])).encode() + b"\n\n"


def _look_alike(membership: Membership) -> None:
    """What differs in this process from a real worker's, and what is the matter with its image."""
    chiasm.supervisor.Engine = StandInEngine  # type: ignore[misc, assignment]
    if IMAGE == OTHER_VERSION:
        chiasm.membership.__version__ = "9.9.9"
        vars(membership.config).clear()  # the cluster's configuration has none of the fields that are known here
    if IMAGE == BROKEN:
        raise ModuleNotFoundError("No module named 'vllm'")


class StandInEncoder(EncoderWorker):
    def __init__(self, *given: Any) -> None:
        _look_alike(given[1])
        super().__init__(*given)


class StandInDecoder(DecoderWorker):
    def __init__(self, *given: Any) -> None:
        _look_alike(given[1])
        super().__init__(*given)
