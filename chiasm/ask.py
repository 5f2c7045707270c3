"""`chiasm ask`: one question, about pictures or none, to a running endpoint."""

import base64
import os
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from chiasm.api_paths import CHAT_PATH
from chiasm.client import EndpointError, get_json, post_stream

_SIGNATURES = (
    (re.compile(rb"\x89PNG\r\n\x1a\n"), "image/png"),
    (re.compile(rb"\xff\xd8\xff"), "image/jpeg"),
    (re.compile(rb"RIFF....WEBP", re.DOTALL), "image/webp"),
    (re.compile(rb"GIF8[79]a"), "image/gif"),
)


class AskError(ValueError):
    """The question cannot be put; the message says why, and what to do."""


def split_arguments(given: Sequence[str]) -> tuple[list[str], str]:
    """The images and the question of a command line `IMAGE... QUESTION`.

    Raises:
        AskError: the last is a file, so the question is missing.
    """
    *images, question = given
    if os.path.isfile(question):  # unlike pathlib's, it takes a question that is too long for a name
        raise AskError(f'{question} is a file, and the question comes last: chiasm ask {question} "What is this?"')
    return images, question


def image_part(source: str | Path) -> dict[str, Any]:
    """An image as a part of a chat message: a file travels as its bytes, an http(s) address as it is.

    Raises:
        AskError: no such file, or not an image of a type that is served.
    """
    url = str(source)
    if not url.startswith(("http://", "https://", "data:")):
        url = _data_url(Path(source))
    return {"type": "image_url", "image_url": {"url": url}}


def _data_url(path: Path) -> str:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise AskError(
            f"cannot read {path}: {error.strerror}. Name images by file or http(s) address, and put the question last, "
            "in quotes."
        ) from error
    return data_url(data, str(path))


def data_url(data: bytes, name: str) -> str:
    """An image file's content as an address; `name` is what an error calls it.

    Raises:
        AskError: not an image of a type that is served.
    """
    mime = next((mime for signature, mime in _SIGNATURES if signature.match(data)), None)
    if mime is None:
        raise AskError(f"{name} is no PNG, JPEG, WebP or GIF file. Convert it to one.")
    return f"data:{mime};base64,{base64.b64encode(data).decode()}"


def chat_body(
    model: str | None, images: Sequence[str | Path], question: str, system: str | None = None, **options: Any
) -> dict[str, Any]:
    """The body of a chat request about these images, in this order; what is None is left out.

    Raises:
        AskError: see `image_part`.
    """
    parts = [*(image_part(image) for image in images), {"type": "text", "text": question}]
    messages: list[dict[str, Any]] = [{"role": "user", "content": parts if images else question}]
    if system is not None:
        messages.insert(0, {"role": "system", "content": system})
    body = {"model": model, "messages": messages, **options}
    return {name: value for name, value in body.items() if value is not None}


def served_model(endpoint: str, api_key: str | None) -> str:
    """The name under which the endpoint serves its model.

    Raises:
        EndpointError: it does not answer, or lists none.
    """
    try:
        name: str = get_json(endpoint, "/v1/models", api_key)["data"][0]["id"]
    except (LookupError, TypeError) as error:
        raise EndpointError(f"{endpoint} lists no model. Is it an OpenAI endpoint? Name the model: --model.") from error
    return name


def phases(headers: Mapping[str, str]) -> dict[str, float]:
    """Milliseconds of each phase in an answer's `Server-Timing` header; what came several times is added up."""
    found: dict[str, float] = {}
    for name, duration in re.findall(r"(\w+);dur=([\d.]+)", headers.get("server-timing", "")):
        found[name] = found.get(name, 0.0) + float(duration)
    return found


class StreamedAnswer:
    """An answer as it comes: iterate over its pieces once; the rest is known when they have ended."""

    def __init__(self, events: Iterator[Any], headers: Mapping[str, str], begun: float) -> None:
        self._events = events
        self._begun = begun
        self.request = headers.get("x-request-id", "")
        self.phases = phases(headers)  # up to the first token: what comes later is not known when headers are sent
        self.first_ms: float | None = None
        self.total_ms = 0.0
        self.tokens: int | None = None
        self.finish_reason: str | None = None

    def __iter__(self) -> Iterator[str]:
        for event in self._events:
            if usage := event.get("usage"):
                self.tokens = usage.get("completion_tokens")
            for choice in event.get("choices", ()):
                if self.first_ms is None:
                    self.first_ms = self._elapsed_ms()
                self.finish_reason = choice.get("finish_reason") or self.finish_reason
                if piece := choice.get("delta", {}).get("content"):
                    yield piece
        self.total_ms = self._elapsed_ms()

    def _elapsed_ms(self) -> float:
        return (time.monotonic() - self._begun) * 1000

    def timing(self) -> str:
        """Where the time went, in one line."""
        parts = [f"{name} {duration:.0f} ms" for name, duration in self.phases.items()]
        if self.first_ms is not None:
            parts.append(f"first token after {self.first_ms:.0f} ms")
        count = "" if self.tokens is None else f" ({self.tokens} tokens)"
        named = [f"request {self.request}"] if self.request else []
        return ", ".join([*parts, f"all after {self.total_ms:.0f} ms{count}", *named])


@contextmanager
def stream_answer(endpoint: str, body: dict[str, Any], api_key: str | None) -> Iterator[StreamedAnswer]:
    """Put `body` to the endpoint, and have its answer as it comes.

    Raises:
        EndpointError: see there; also while the pieces are taken.
    """
    body = body | {"stream": True, "stream_options": {"include_usage": True}}
    begun = time.monotonic()
    with post_stream(endpoint, CHAT_PATH, body, api_key) as (events, headers):
        yield StreamedAnswer(events, headers, begun)
