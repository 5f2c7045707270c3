"""A request's own timeline in its response, for a client that asks for it with the header `X-Chiasm-Timeline: true`.

It stands under `chiasm.timeline`: in the object of an answer, or in an event of its own before a stream's `[DONE]`,
shaped like the one with the usage: without choices.
"""

import logging
import time
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
from aiohttp import web

from chiasm.api_paths import CHAT_PATH
from chiasm.nouns import RequestId
from chiasm.telemetry.timelines.timeline import Timeline

logger = logging.getLogger(__name__)

ASKED = "X-Chiasm-Timeline"
_DONE = b"data: [DONE]"


def asks_for_timeline(request: web.Request) -> bool:
    """Whether the client wants it."""
    return request.headers.get(ASKED, "").lower() in ("true", "1")


def before_done(events: bytes) -> tuple[bytes, bytes]:
    """The last events of a stream, up to the `[DONE]` and from there on; nothing there if they have none."""
    before, done, after = events.rpartition(_DONE)
    return (before, done + after) if done else (events, b"")


class Appendix:
    """What is added to one response. `timeline` is asked for once the scheduler knows that it is complete.

    A timeline that cannot be had is left out.
    """

    def __init__(self, timeline: Callable[[], Awaitable[Timeline]], path: str, request: RequestId, model: str) -> None:
        self._timeline = timeline
        self._event: dict[str, Any] = {
            "id": request,
            "object": "chat.completion.chunk" if path == CHAT_PATH else "text_completion",
            "created": int(time.time()),
            "model": model,
            "choices": [],
        }

    async def to_object(self, answer: bytes) -> bytes:
        """An engine's answer with the timeline; one that is no JSON object as it was."""
        try:
            content: Any = msgspec.json.decode(answer)
        except (msgspec.DecodeError, UnicodeDecodeError):
            return answer
        if not isinstance(content, dict) or not (member := await self._member()):
            return answer
        return msgspec.json.encode(content | member)

    async def to_stream(self, done: bytes) -> bytes:
        """The `[DONE]` of a stream with the timeline before it; as it was if there is none."""
        if not done or not (member := await self._member()):
            return done
        return b"data: %s\n\n%s" % (msgspec.json.encode(self._event | member), done)

    async def _member(self) -> dict[str, Any]:
        try:
            return {"chiasm": {"timeline": await self._timeline()}}
        except Exception:
            logger.exception("request %s is answered without its timeline", self._event["id"])
            return {}
