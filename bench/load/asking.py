"""One request to an OpenAI endpoint, its answer streamed, and when each piece of it came.

The clock is read as bytes arrive, before anything is parsed. Whatever goes wrong becomes the answer's `error`.
"""

import io
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import msgspec

import chiasm.ask
from bench.load.answers import Answer
from bench.load.events import Splitter
from chiasm.api_paths import CHAT_PATH
from chiasm.client import EndpointError

KEEP_ALIVE_S = 2.0  # less than any server's, or a request may go to a connection that is being closed (uvicorn: 5 s)
MESSAGE = 300  # characters of what an endpoint says that are kept
UNFINISHED = ("abort", "error")  # finish reasons of answers that are not complete


class Unreachable(RuntimeError):
    """An endpoint that does not answer, or serves no model; the message says which, and what to do."""


@dataclass(frozen=True)
class Endpoint:
    """Who is asked: base URL (without /v1), name of the model, bearer token."""

    url: str
    model: str
    key: str | None = None


@dataclass(frozen=True)
class Planned:
    """One request: when it is due, in seconds since the drive began, and its body without `model` and `stream`."""

    due_s: float
    kind: str
    body: Mapping[str, Any]


def served_model(url: str, key: str | None) -> str:
    """The first model that the endpoint lists.

    Raises:
        Unreachable: see there.
    """
    try:
        return chiasm.ask.served_model(url, key)
    except EndpointError as error:
        raise Unreachable(str(error)) from error


def new_session(timeout_s: float, headers: Mapping[str, str] | None = None) -> aiohttp.ClientSession:
    """For any number of requests at once, each of which may take so long, and has these headers besides its own."""
    connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=KEEP_ALIVE_S)
    return aiohttp.ClientSession(
        connector=connector, timeout=aiohttp.ClientTimeout(total=timeout_s), headers=headers or {}
    )


async def ask(client: aiohttp.ClientSession, endpoint: Endpoint, planned: Planned, number: int, began: float) -> Answer:
    """Send it now, whenever it is due, and read the answer to its end. `began` is a reading of the monotonic clock.

    Never raises for a request that fails: the answer's `error` says why.
    """
    return await send(client, endpoint, encoded(endpoint, planned), planned, number, began)


def encoded(endpoint: Endpoint, planned: Planned) -> bytes:
    """The body as it is sent: the answer is to be streamed, and to tell its tokens at the end."""
    streamed = {"model": endpoint.model, "stream": True, "stream_options": {"include_usage": True}}
    return msgspec.json.encode({**planned.body, **streamed})


async def send(
    client: aiohttp.ClientSession, endpoint: Endpoint, body: bytes, planned: Planned, number: int, began: float
) -> Answer:
    """As `ask`, of a body that was `encoded` beforehand."""
    seen = _Seen()
    sent = time.monotonic()
    try:
        await _read(client, endpoint, body, seen)
        error = None
    except TimeoutError:
        error = f"{endpoint.url} did not end the answer within {client.timeout.total} s"
    except _Fault as fault:
        error = f"{endpoint.url} {fault}"
    except (aiohttp.ClientError, OSError) as fault:
        error = f"no answer from {endpoint.url}, or not all of it: {fault!r}"
    except (msgspec.DecodeError, ValueError) as fault:  # ValueError: bytes that are no UTF-8
        error = f"cannot read what {endpoint.url} answered: {fault}"
    ended = time.monotonic()
    counted = seen.usage.completion_tokens
    tokens = len(seen.chunks) - seen.leading if counted is None else counted
    wanted = _fixed_length(planned.body)
    if error is None and counted is not None and wanted not in (None, counted):
        error = f"{endpoint.url} gave {counted} of {wanted} tokens, and was to go on (ignore_eos, as vLLM has it)"
    return Answer(
        number=number,
        kind=planned.kind,
        due_s=planned.due_s,
        sent_s=sent - began,
        chunks_s=tuple(at - began for at in seen.chunks),
        ended_s=ended - began,
        prompt_tokens=seen.usage.prompt_tokens,
        output_tokens=tokens,
        error=error,
        leading=seen.leading,
        phases_ms=seen.phases_ms,
    )


def _fixed_length(body: Mapping[str, Any]) -> int | None:
    """Tokens of the answer, if the request decides about them and not the model."""
    if not body.get("ignore_eos"):
        return None
    wanted: int | None = body.get("max_completion_tokens", body.get("max_tokens"))
    return wanted


class _Fault(Exception):
    """What the endpoint did that is no answer."""


class _Delta(msgspec.Struct):
    role: str | None = None
    content: Any = None


class _Choice(msgspec.Struct):
    finish_reason: str | None = None
    delta: _Delta | None = None


class _Usage(msgspec.Struct):
    prompt_tokens: int | None = None
    completion_tokens: int | None = None


class _Event(msgspec.Struct):
    choices: list[_Choice] | None = None
    usage: _Usage | None = None
    error: Any = None


_event = msgspec.json.Decoder(_Event)


@dataclass
class _Seen:
    """What has come so far; times are readings of the clock."""

    chunks: list[float] = field(default_factory=list)
    leading: int = 0
    usage: _Usage = field(default_factory=_Usage)
    finish_reason: str | None = None
    phases_ms: dict[str, float] = field(default_factory=dict)

    def note(self, data: bytes, at: float) -> None:
        if data == b"[DONE]":
            return
        event = _event.decode(data)
        if event.error is not None:
            raise _Fault(f"broke the answer off: {_message(event.error)}")
        self.usage = event.usage or self.usage
        if event.choices:
            self.leading += not self.chunks and _only_names_a_role(event.choices[0])
            self.chunks.append(at)
            self.finish_reason = event.choices[0].finish_reason or self.finish_reason


def _only_names_a_role(choice: _Choice) -> bool:
    """Later events without content may carry a token whose text is not complete."""
    delta = choice.delta
    return delta is not None and delta.role is not None and not delta.content and choice.finish_reason is None


async def _read(client: aiohttp.ClientSession, endpoint: Endpoint, body: bytes, seen: _Seen) -> None:
    headers = {"Content-Type": "application/json", "Accept": "text/event-stream"}
    if endpoint.key is not None:
        headers["Authorization"] = f"Bearer {endpoint.key}"
    url = endpoint.url.rstrip("/") + CHAT_PATH
    async with client.post(url, data=io.BytesIO(body), headers=headers) as answer:
        if answer.status != 200:
            raise _Fault(f"answered {answer.status}: {_refusal(await answer.read())}")
        seen.phases_ms = chiasm.ask.phases(answer.headers)
        events = Splitter()
        async for received in answer.content.iter_any():
            at = time.monotonic()
            for data in events.feed(received):
                seen.note(data, at)
        at = time.monotonic()
        for data in events.close():
            seen.note(data, at)
    if seen.finish_reason is None:
        raise _Fault(
            f"ended the answer without a finish_reason, after {len(seen.chunks)} chunks ({answer.content_type})"
        )
    if seen.finish_reason in UNFINISHED:
        raise _Fault(f"gave the answer up: its finish_reason is {seen.finish_reason!r}")


def _refusal(body: bytes) -> str:
    try:
        said = _message(_event.decode(body).error or body.decode())
    except (msgspec.DecodeError, ValueError):
        said = body.decode(errors="replace")
    if "stream_options" in said:
        said += " (stream_options.include_usage is needed: it is how tokens are counted)"
    return said[:MESSAGE]


def _message(error: Any) -> str:
    return str(error.get("message", error) if isinstance(error, dict) else error)
