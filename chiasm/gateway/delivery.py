"""What one client gets: at most one response, begun as late as possible: until then another attempt costs nothing."""

import asyncio
from collections.abc import Awaitable

from aiohttp import web

from chiasm.gateway.appendix import Appendix, before_done
from chiasm.gateway.errors import ApiError
from chiasm.gateway.outcomes import ANSWERED, CLIENT_LEFT, INVALID, REFUSED_BY_ENGINE
from chiasm.gateway.timing import Timing

LAST_WORDS_S = 5.0
"""How long a client that reads slowly has for the error at the end of its stream."""


POLL_S = 0.05
"""Between two looks at whether a client reads again."""


class ClientLeft(Exception):
    """The client's connection is gone."""


class Delivery:
    """The response to one client request.

    `response` is None until something is delivered; from then on an error can only be said within it. `outcome` is the
    label under which the request is counted. `appendix` is added by `finish` to whatever an engine has answered.
    """

    def __init__(self, request: web.Request, timing: Timing) -> None:
        self._request = request
        self._timing = timing
        self.response: web.StreamResponse | None = None
        self.appendix: Appendix | None = None
        self.outcome = INVALID  # unless it gets so far as to be submitted, or fails before by no fault of its own
        self._complete = False
        self._stalled = False
        self._given_up = False  # a write, since the last one that came to its end
        self._error: ApiError | None = None  # that the stream ends in
        self._done = b""  # the end of a complete stream, if the appendix has yet to go before it

    def answer(self, status: int, body: bytes) -> None:
        """A complete answer in JSON."""
        self.response = web.Response(
            status=status,
            body=body,
            content_type="application/json",
            headers={"Server-Timing": self._timing.server_timing()},
        )
        self._complete = True

    async def write(self, events: bytes, *, tokens: bool, last: bool, error: ApiError | None = None) -> None:
        """Some events of a stream; the first begin it, and nothing is added behind the last.

        They stand for `tokens`, or do not, and may say an `error`.

        Raises:
            ClientLeft: nobody listens any more.
        """
        events, self._done = self._done + events, b""
        if self.appendix is not None and last and error is None:
            events, self._done = before_done(events)
        if tokens:
            self._timing.delivering()
        if self.response is None:
            self.response = web.StreamResponse(
                headers={
                    "Content-Type": "text/event-stream; charset=utf-8",
                    "Cache-Control": "no-cache",
                    "X-Accel-Buffering": "no",  # proxies that gather bytes would undo the streaming
                    "Server-Timing": self._timing.server_timing(),
                }
            )
            await self._send(self.response.prepare(self._request))
        self._error = error
        self._complete = last  # before the wait that may be cancelled: the bytes are on their way by then
        await self._send(self.response.write(events))
        if tokens:
            self._timing.delivered()

    def resume(self) -> None:
        """A write was given up because its engine was, not the client: the next one shows whether that still reads."""
        if self._stalled:
            self._timing.delivered()
        self._stalled = False
        self._given_up = True

    async def finish(self) -> web.StreamResponse:
        """The response, all of it sent if it is a stream.

        The appendix comes last, and whatever befalls it the answer stands.

        Raises:
            ClientLeft: nobody listens any more, and not all had been sent.
        """
        assert self.response is not None
        self.outcome = self._delivered()
        if self.appendix is not None and self.outcome == ANSWERED:
            if isinstance(self.response, web.Response):
                assert isinstance(self.response.body, bytes)
                self.response.body = await self.appendix.to_object(self.response.body)
            else:
                self._done = await self.appendix.to_stream(self._done)
        await self._send_rest(self.response)
        return self.response

    def _delivered(self) -> str:
        """The outcome of a response of which the client has everything."""
        if self._error is not None:
            return _outcome(self._error)
        return ANSWERED if self.response is None or self.response.status == 200 else REFUSED_BY_ENGINE

    async def _send_rest(self, response: web.StreamResponse) -> None:
        """Says that a stream is over, to a client that may have left when it had the last event."""
        if isinstance(response, web.Response):
            return
        transport = self._request.transport
        # Asked before, because a connection that breaks forgets what it had not sent.
        sent = self._complete and transport is not None and transport.get_write_buffer_size() == 0
        try:
            await self._send(response.write_eof(self._done))
        except ClientLeft:
            if not sent:
                raise
            self._stalled = False

    async def _send(self, sending: Awaitable[object]) -> None:
        self._stalled = True
        try:
            if self._given_up:
                await self._until_it_reads()
            await sending
        except ConnectionError as error:
            raise ClientLeft from error
        self._stalled = False  # but not if cancelled: then the client was not taking what it was being sent

    async def _until_it_reads(self) -> None:
        """Wait until the client has taken most of what it was sent, or is gone.

        aiohttp (3.14) keeps what a cancelled write was waiting for, and whoever writes next would be cancelled with it.
        """
        protocol = self._request.protocol
        while protocol.connected and protocol.writing_paused:  # noqa: ASYNC110  # nobody else is told when that changes
            await asyncio.sleep(POLL_S)
        self._given_up = False

    async def fail(self, error: ApiError) -> web.StreamResponse:
        """End with `error`: as events if a stream has begun, raised if nothing was delivered.

        What is complete stays what it is: the error came too late for it.

        Raises:
            ApiError: nothing had been delivered.
            ClientLeft: nobody listens any more, or reads.
        """
        self.outcome = self._delivered() if self._complete else _outcome(error)
        if self.response is None:
            raise error
        if self._stalled:
            raise ClientLeft
        try:
            async with asyncio.timeout(LAST_WORDS_S):
                if not self._complete:
                    await self.write(error.events(), tokens=False, last=True, error=error)
                await self._send_rest(self.response)
        except TimeoutError as stalled:
            raise ClientLeft from stalled
        return self.response

    def left(self) -> None:
        """The client has closed its connection, which is only its right once it has everything."""
        self.outcome = self._delivered() if self._complete and not self._stalled else CLIENT_LEFT

    def abandon(self) -> web.StreamResponse:
        """End without a word: the client has left, or stopped reading. Returns what the server needs to close up."""
        self.left()
        if self._request.transport is not None:
            self._request.transport.abort()
        return self.response or web.Response()


def _outcome(error: ApiError) -> str:
    return error.code or "failed"
