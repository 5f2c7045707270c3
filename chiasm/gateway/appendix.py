"""A request's own timeline in its response, for a client that asks for it with the header `X-Chiasm-Timeline: true`.

It stands under `chiasm.timeline`: in the object of an answer, or in an event of its own before a stream's `[DONE]`,
shaped like the one with the usage: without choices.
"""

import time
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
from aiohttp import web

from chiasm.api_paths import CHAT_PATH
from chiasm.nouns import RequestId
from chiasm.telemetry.timelines.timeline import Timeline

ASKED = "X-Chiasm-Timeline"
_DONE = b"data: [DONE]"


def asks_for_timeline(request: web.Request) -> bool:
    """Whether the client wants it."""
    return request.headers.get(ASKED, "").lower() in ("true", "1")


class Appendix:
    """What is added to one response. `timeline` is asked for once the engine has said its last."""

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
        return msgspec.json.encode(content | await self._member()) if isinstance(content, dict) else answer

    async def to_stream(self, events: bytes) -> bytes:
        """The last events of a stream with the timeline before the `[DONE]`; as they were if they have none."""
        before, done, after = events.rpartition(_DONE)
        if not done:
            return events
        return b"%sdata: %s\n\n%s%s" % (before, msgspec.json.encode(self._event | await self._member()), done, after)

    async def _member(self) -> dict[str, Any]:
        return {"chiasm": {"timeline": await self._timeline()}}
