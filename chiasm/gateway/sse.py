"""An engine's stream of server-sent events, read alongside without being changed: whole events for passing on, and what
they tell of the answer. The one thing that is added is the name of an error's event. No I/O of its own.
"""

import re
from collections.abc import AsyncIterable, AsyncIterator
from typing import Any

import msgspec
from msgspec import Struct

MAX_EVENT_BYTES = 16 << 20


ERROR_EVENT = b"event: error\n"
"""The line that names an event as an error.

Without it, load generators would count a broken answer as a success: those that look for this name alone (AIPerf), and
those that skip whatever JSON has no choices (`vllm bench serve`). OpenAI's clients go by the data.
"""

_ERROR_DATA = re.compile(rb'^(?=data:\s*\{\s*"error"\s*:)', re.MULTILINE)


class EventTooLong(ValueError):
    """An event exceeds `MAX_EVENT_BYTES`."""


class _Usage(Struct):
    completion_tokens: int = 0


class _Event(Struct):
    usage: _Usage | None = None
    error: Any = None
    choices: list[dict[str, Any]] = []


_decode_event = msgspec.json.Decoder(_Event).decode


async def whole_events(chunks: AsyncIterable[bytes]) -> AsyncIterator[bytes]:
    """The same bytes, cut only between events, so that an event of our own may follow any of them.

    Raises:
        EventTooLong: an event does not end.
    """
    tail = bytearray()
    async for chunk in chunks:
        searched = max(0, len(tail) - 3)
        tail += chunk
        end = max(_end_of_last(separator, tail, searched) for separator in (b"\n\n", b"\r\n\r\n"))
        if end:
            yield bytes(tail[:end])
            del tail[:end]
        if len(tail) > MAX_EVENT_BYTES:
            raise EventTooLong(f"an event of more than {MAX_EVENT_BYTES} bytes")
    if tail:
        yield bytes(tail)


def named_errors(events: bytes) -> bytes:
    """The same events, those that carry an engine's error named as such; engines leave them without a name."""
    return _ERROR_DATA.sub(ERROR_EVENT, events)


def _end_of_last(separator: bytes, data: bytearray, start: int) -> int:
    found = data.rfind(separator, start)
    return 0 if found < 0 else found + len(separator)


class Tally:
    """What the events read so far tell of an answer.

    `begun` turns true with the first event that stands for a token, be it one without text (half a character, a hidden
    special token). Engines open a chat's stream with events that only name the role, and send these also before the
    error of a request that generated nothing. `events` are those that stand for some.
    """

    def __init__(self) -> None:
        self.begun = False
        self.complete = False
        self.error: str | None = None
        self.events = 0
        self._usage = 0

    def read(self, events: bytes) -> None:
        """Take in one or more whole events."""
        for line in events.splitlines():
            if line.startswith(b"data:"):
                self._read_data(line[5:].strip())

    @property
    def tokens(self) -> int:
        """Tokens generated: the engine's own count if it gave one, else the events that carried some."""
        return self._usage or self.events

    def _read_data(self, data: bytes) -> None:
        if data == b"[DONE]":
            self.complete = True
            return
        try:
            event = _decode_event(data)
        except (msgspec.DecodeError, UnicodeDecodeError):
            # Not ours to judge: the client gets it as it is.
            self.begun = True
            return
        if event.error is not None:
            self.error = str(event.error.get("message") if isinstance(event.error, dict) else event.error)
            return
        if event.usage is not None:
            self._usage = max(self._usage, event.usage.completion_tokens)
        if any(map(_carries_answer, event.choices)):
            self.begun = True
            self.events += 1


def _carries_answer(choice: dict[str, Any]) -> bool:
    delta = choice.get("delta")
    if not isinstance(delta, dict):
        return True  # a text completion: it has no opening
    if delta and "role" not in delta:
        return True
    return any(value for name, value in delta.items() if name != "role") or any(
        value for name, value in choice.items() if name not in ("index", "delta")
    )
