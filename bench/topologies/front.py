"""The HTTP server of a process in front of engines: what the router and the encoder-disaggregation proxy share.

Bytes are passed on as they come, and read no more than an answer needs. Every request ends in one answer or in one
error that says what failed. It ends when its standard input closes, as it does when whoever started it is gone.
"""

import asyncio
import contextlib
import sys
from collections.abc import AsyncIterator, Awaitable, Callable

from aiohttp import ClientError, ClientResponse, ClientSession, ClientTimeout, DummyCookieJar, TCPConnector, web

from chiasm.gateway.errors import ApiError

MAX_BODY_BYTES = 64 << 20
MOST_AT_ONCE = 1024  # requests; their bodies are held while they are under way
REQUEST_TIMEOUT_S = 600.0
CONNECT_TIMEOUT_S = 5.0
CLOSING_S = 1.0
KEEP_ALIVE_S = 3.0  # below the five seconds after which vLLM's server closes an idle connection
PASSED_ON = ("Authorization", "Content-Type", "X-Request-Id")

Handler = Callable[[web.Request, bytes, ClientSession], Awaitable[web.StreamResponse]]
"""Answers one request, whose body has been read. It raises `ApiError` for what cannot be answered."""


def run(handler: Handler) -> None:
    """Serve on a free port of this machine, and say on which, until the standard input closes."""
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(_serve(handler))


async def _serve(handler: Handler) -> None:
    async with serving(handler) as url:
        print(f"ready: {url}/v1", flush=True)
        loop, reader = asyncio.get_running_loop(), asyncio.StreamReader()
        await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
        await reader.read()


@contextlib.asynccontextmanager
async def serving(handler: Handler) -> AsyncIterator[str]:
    """The server's base URL, for as long as the context lasts."""
    session = ClientSession(
        connector=TCPConnector(limit=0, keepalive_timeout=KEEP_ALIVE_S),
        timeout=ClientTimeout(total=REQUEST_TIMEOUT_S, sock_connect=CONNECT_TIMEOUT_S),
        cookie_jar=DummyCookieJar(),
        auto_decompress=False,
        skip_auto_headers=("Accept-Encoding", "User-Agent"),
    )
    async with session:
        app = web.Application(client_max_size=MAX_BODY_BYTES)
        app.router.add_route("*", "/{path:.*}", _Bounded(handler, session).answer)
        # A client that leaves cancels its handler, which closes the connection to the engine, which drops the request.
        runner = web.AppRunner(app, access_log=None, handler_cancellation=True, shutdown_timeout=CLOSING_S)
        await runner.setup()
        try:
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            yield f"http://127.0.0.1:{runner.addresses[0][1]}"
        finally:
            await runner.cleanup()


class _Bounded:
    """Hands requests to the handler, so many at once at most, and turns what it raises into answers."""

    def __init__(self, handler: Handler, session: ClientSession) -> None:
        self._handler = handler
        self._session = session
        self._under_way = 0

    async def answer(self, request: web.Request) -> web.StreamResponse:
        """One request, or its refusal."""
        self._under_way += 1
        try:
            if self._under_way > MOST_AT_ONCE:
                message = f"{MOST_AT_ONCE} requests are under way, the most that are taken. Ask fewer at once."
                raise ApiError(429, message, kind="rate_limit_error", code="front_full")
            return await self._handler(request, await _body(request), self._session)
        except ApiError as error:
            return web.Response(status=error.status, body=error.body(), content_type="application/json")
        finally:
            self._under_way -= 1


async def _body(request: web.Request) -> bytes:
    try:
        return await request.read()
    except web.HTTPRequestEntityTooLarge as error:
        raise ApiError(413, f"The body exceeds {MAX_BODY_BYTES} bytes.", code="body_too_large") from error


@contextlib.asynccontextmanager
async def asking(
    request: web.Request, body: bytes, session: ClientSession, engine: str, path: str | None = None
) -> AsyncIterator[ClientResponse]:
    """An engine's answer to the request with this body, whatever its status. Leaving early drops it in the engine.

    Raises:
        ApiError: the engine gave none.
    """
    headers = {name: request.headers[name] for name in PASSED_ON if name in request.headers}
    url = engine + (path or request.path_qs)
    try:
        answer = await session.request(request.method, url, data=body or None, headers=headers, allow_redirects=False)
    except (ClientError, TimeoutError) as error:
        raise engine_failed(engine, error) from error
    async with answer:
        yield answer


def engine_failed(engine: str, error: Exception) -> ApiError:
    """What a client is told where an engine gave no answer, or only a part of one."""
    if isinstance(error, TimeoutError):
        return ApiError(504, f"{engine} did not answer in time", kind="server_error", code="engine_timeout")
    reason = f"{type(error).__name__}: {error}"
    return ApiError(502, f"{engine} gave no complete answer: {reason}", kind="server_error", code="engine_failed")


async def relay(request: web.Request, answer: ClientResponse, engine: str) -> web.StreamResponse:
    """Hand the engine's answer on, as it comes."""
    response = web.StreamResponse(status=answer.status)
    response.content_type = answer.content_type
    response.content_length = answer.content_length
    await response.prepare(request)
    chunks = aiter(answer.content.iter_any())
    while True:
        try:
            chunk = await anext(chunks, b"")
        except (ClientError, TimeoutError) as error:
            await _break_off(request, response, engine_failed(engine, error))
            return response
        if not chunk:
            break
        await response.write(chunk)
    await response.write_eof()
    return response


async def _break_off(request: web.Request, response: web.StreamResponse, error: ApiError) -> None:
    """End an answer that has begun: a stream by an error as its last event, any other by a connection that breaks."""
    if response.content_type == "text/event-stream":
        await response.write(b"\n\n" + error.events())  # the engine may have stopped in the middle of an event
        await response.write_eof()
    elif request.transport is not None:
        request.transport.abort()
