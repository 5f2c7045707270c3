"""HTTP servers in a thread that answer by a test's script, and the pieces of streamed answers."""

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from aiohttp import web

from chiasm.api_paths import CHAT_PATH
from chiasm.loop_thread import LoopThread

PATIENCE_S = 20.0
DONE = b"data: [DONE]\n\n"
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def event(said: Any) -> bytes:
    return b"data: " + json.dumps(said).encode() + b"\n\n"


def chunk(text: str = "a", finish_reason: str | None = None) -> bytes:
    return event({"choices": [{"index": 0, "delta": {"content": text}, "finish_reason": finish_reason}], "usage": None})


def role() -> bytes:
    """What vLLM sends before the first token, together with it."""
    return event({"choices": [{"index": 0, "delta": {"role": "assistant", "content": ""}, "finish_reason": None}]})


def usage(prompt: int, completion: int) -> bytes:
    return event({"choices": [], "usage": {"prompt_tokens": prompt, "completion_tokens": completion}})


async def stream(
    request: web.Request, pieces: Iterable[bytes], headers: Mapping[str, str] | None = None
) -> web.StreamResponse:
    answer = web.StreamResponse(headers={"Content-Type": "text/event-stream", **(headers or {})})
    await answer.prepare(request)
    for piece in pieces:
        await answer.write(piece)
    await answer.write_eof()
    return answer


@contextmanager
def serving(chat: Handler, others: Mapping[str, Handler] | None = None) -> Iterator[str]:
    """Its URL. A handler is cancelled when its client goes away. `others` are POST routes too."""
    addresses: list[int] = []
    listening = asyncio.Event()

    async def run() -> None:
        app = web.Application(client_max_size=64 << 20)
        app.add_routes([web.post(path, handler) for path, handler in {CHAT_PATH: chat, **(others or {})}.items()])
        runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.1)
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

    thread = LoopThread("scripted answers", run)
    try:
        thread.call(wait_listening, PATIENCE_S)
        yield f"http://127.0.0.1:{addresses[0]}"
    finally:
        thread.stop(PATIENCE_S)


@contextmanager
def answering(*pieces: bytes, **headers: str) -> Iterator[str]:
    """The URL of a server that answers every chat request with these bytes."""

    async def chat(request: web.Request) -> web.StreamResponse:
        await request.read()
        return await stream(request, pieces, {name.replace("_", "-"): value for name, value in headers.items()})

    with serving(chat) as url:
        yield url
