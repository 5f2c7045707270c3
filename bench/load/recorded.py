"""Requests from a JSONL file: each line is a chat body, or a row shaped like VisionArena's.

A row has a `conversation` (or `turns`), a list of messages or of lists of them, of which the first that a user wrote is
asked, and `images`: addresses, files beside the JSONL file, or objects with `bytes` (base64), `url` or `path`.
"""

import base64
import json
import random
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from bench.load.workloads import BadWorkload, Bodies, exactly, kind_of
from chiasm.ask import AskError, chat_body, data_url

ANSWER = 128  # tokens of an answer to a row, unless told: vLLM's number for VisionArena
NOT_RECORDED = ("model", "stream", "stream_options")  # whoever asks decides


class Recorded:
    """The requests of one file. Chat bodies are sent as they were recorded, with their own limits of length.

    Raises:
        BadWorkload: the file cannot be read, is empty, or has a line that is neither; the message names the line.
    """

    def __init__(self, path: Path, output_tokens: int = ANSWER) -> None:
        self.name = path.name
        self._requests: Bodies = [_request(line, where, path.parent, output_tokens) for where, line in _lines(path)]
        if not self._requests:
            raise BadWorkload(f"{path} has no requests. Write one JSON object a line.")

    def __len__(self) -> int:
        """How many different requests there are."""
        return len(self._requests)

    def in_order(self) -> Bodies:
        """All of them, as the file has them."""
        return list(self._requests)

    def bodies(self, count: int, dice: random.Random) -> Bodies:
        """In a random order. None comes again before all came; images that come again are in the server's caches."""
        order: Bodies = []
        while len(order) < count:
            order += dice.sample(self._requests, min(len(self._requests), count - len(order)))
        return order


def _lines(path: Path) -> Iterator[tuple[str, str]]:
    """Each line that is not blank, after its place."""
    try:
        with path.open(encoding="utf-8") as file:
            for number, line in enumerate(file, start=1):
                if line.strip():
                    yield f"{path}, line {number}", line
    except OSError as error:
        raise BadWorkload(f"cannot read {path}: {error.strerror}. Name a JSONL file.") from error
    except UnicodeDecodeError as error:
        raise BadWorkload(
            f"{path} is not UTF-8 text: {error}. Name a JSONL file; Parquet must be converted."
        ) from error


def _request(line: str, where: str, folder: Path, output_tokens: int) -> tuple[str, Mapping[str, Any]]:
    try:
        row = json.loads(line)
    except ValueError as error:
        raise BadWorkload(f"{where} is not JSON: {error}. Write one object a line.") from error
    if isinstance(row, dict) and "messages" in row:
        return _recorded(row, where)
    if isinstance(row, dict) and ("conversation" in row or "turns" in row):
        return _asked(row, where, folder, output_tokens)
    raise BadWorkload(f'{where} is no request. It needs "messages" of a chat body, or "conversation" and "images".')


def _recorded(row: Mapping[str, Any], where: str) -> tuple[str, Mapping[str, Any]]:
    messages = row["messages"]
    if not (isinstance(messages, list) and messages and all(isinstance(each, dict) for each in messages)):
        raise BadWorkload(f'{where}: "messages" must be a list of objects with role and content.')
    parts = [part for each in messages if isinstance(each.get("content"), list) for part in each["content"]]
    images = sum(isinstance(part, dict) and part.get("type") == "image_url" for part in parts)
    return kind_of(images), {name: value for name, value in row.items() if name not in NOT_RECORDED}


def _asked(row: Mapping[str, Any], where: str, folder: Path, output_tokens: int) -> tuple[str, Mapping[str, Any]]:
    question = next(_questions(row.get("conversation", row.get("turns"))), None)
    if question is None:
        raise BadWorkload(f'{where}: no message of a user with text. It needs {{"role": "user", "content": "…"}}.')
    images = row.get("images") or []
    if not isinstance(images, list):
        raise BadWorkload(f'{where}: "images" must be a list.')
    try:
        sources = [_source(image, f"image {number}", folder) for number, image in enumerate(images, start=1)]
        return kind_of(len(sources)), chat_body(None, sources, question, **exactly(output_tokens))
    except AskError as error:
        raise BadWorkload(f"{where}: {error}") from error


def _questions(messages: Any) -> Iterator[str]:
    """What users say in messages that may be in lists of lists; a message that names no role is a user's."""
    if isinstance(messages, list):
        for each in messages:
            yield from _questions(each)
    elif (
        isinstance(messages, dict)
        and messages.get("role", "user") == "user"
        and isinstance(content := messages.get("content"), str)
        and content
    ):
        yield content


def _source(image: Any, name: str, folder: Path) -> str | Path:
    """Its address, or its file. Raises AskError, with `name` for it."""
    if isinstance(image, dict):
        if image.get("bytes") is not None:
            return data_url(_decoded(image["bytes"], name), name)
        image = image.get("url") or image.get("path")
    if not isinstance(image, str) or not image:
        raise AskError(f'{name}: give an address, a file, or an object with "bytes" (base64), "url" or "path".')
    return image if image.startswith(("http://", "https://", "data:")) else folder / image


def _decoded(encoded: Any, name: str) -> bytes:
    try:
        return base64.b64decode(encoded, validate=True)
    except (TypeError, ValueError) as error:
        raise AskError(f'{name}: "bytes" is not base64: {error}. Encode the image file as base64.') from error
