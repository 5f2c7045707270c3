"""Streamed answers as a client sees them: when each token came. For the bench model, whose tokens are characters."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec
from aiohttp import ClientError, ClientSession, ClientTimeout, TCPConnector

from chiasm.api_paths import CHAT_PATH
from chiasm.ask import phases

TIMEOUT_S = 600.0


class Unanswered(RuntimeError):
    """An error, or an answer that is not complete; the message says which, and whose."""


@dataclass(frozen=True)
class Target:
    """Who is asked: base URL and bearer token."""

    url: str
    key: str


@dataclass
class Stream:
    """One answer on its way. Times are the monotonic clock's, in seconds."""

    asked: float
    tokens: list[float] = field(default_factory=list)  # when each came
    phases_ms: Mapping[str, float] = field(default_factory=dict)  # until the first token, as a gateway tells them
    request: str = ""  # its id, as a gateway tells it

    @property
    def ttft_s(self) -> float:
        """From the question to the first token, which must be there."""
        return self.tokens[0] - self.asked


def session() -> ClientSession:
    """For any number of streams at once."""
    return ClientSession(connector=TCPConnector(limit=0), timeout=ClientTimeout(total=TIMEOUT_S))


async def read(client: ClientSession, target: Target, body: Mapping[str, Any], stream: Stream) -> None:
    """Ask now, and note in `stream` what comes until the answer is complete: `max_tokens` of them.

    Raises:
        Unanswered: an error, or fewer tokens.
    """
    headers = {"Authorization": f"Bearer {target.key}"}
    stream.asked = time.monotonic()
    try:
        async with client.post(target.url + CHAT_PATH, json={**body, "stream": True}, headers=headers) as answer:
            if answer.status != 200:
                raise Unanswered(f"{target.url} answered {answer.status}: {(await answer.text())[:200]}")
            stream.phases_ms, stream.request = phases(answer.headers), answer.headers.get("X-Request-Id", "")
            async for line in answer.content:
                if line.startswith(b"data: {"):
                    stream.tokens += [time.monotonic()] * _tokens(line[len(b"data: ") :], target)
    except (ClientError, TimeoutError) as error:
        raise Unanswered(f"no answer from {target.url}: {error!r}") from error
    if len(stream.tokens) != body["max_tokens"]:
        raise Unanswered(f"{target.url} gave {len(stream.tokens)} of {body['max_tokens']} tokens")


def _tokens(event: bytes, target: Target) -> int:
    said = msgspec.json.decode(event)
    if "error" in said:
        raise Unanswered(f"{target.url} ended the answer: {said['error'].get('message')}")
    return sum(len(choice["delta"].get("content") or "") for choice in said["choices"])
