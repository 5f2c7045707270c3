"""Real engines for tests: an encoder, a decoder and the unsplit engine of one model, started together."""

import base64
import io
import json
import secrets
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw

from chiasm.config import WireConfig
from chiasm.engine import Engine, EngineSpec
from chiasm.nouns import Role, WorkerId
from chiasm.wire.settings import ConnectorSettings

START_TIMEOUT_S = 400
ANSWER_TIMEOUT_S = 120
TOKENS = 12
ARGS = ("--dtype=float32", "--enforce-eager", "--max-model-len=2048", "--kv-cache-memory-bytes=67108864")


@dataclass(frozen=True)
class Trio:
    """The three engines of one model."""

    encoder: Engine
    decoder: Engine
    whole: Engine


@contextmanager
def running_trio(
    model: Path, decoder_args: Sequence[str] = (), wire: WireConfig | None = None, host: str = "127.0.0.1"
) -> Iterator[Trio]:
    """Start the three at once, and stop them at the end."""
    token = secrets.token_urlsafe(8)

    def engine(role: Role, args: Sequence[str] = ()) -> Engine:
        settings = ConnectorSettings(
            worker=WorkerId(role), model_revision="test", wire=wire or WireConfig(transfer_timeout_s=5)
        )
        spec = EngineSpec(
            name=role,
            role=role,
            model=str(model),
            served_name="model",
            token=token,
            host=host,
            args=(*ARGS, *args),
            connector=settings.model_dump(),
        )
        return Engine(spec, log=print)

    engines = [engine(Role.ENCODER), engine(Role.DECODER, decoder_args), engine(Role.WHOLE)]
    try:
        with ThreadPoolExecutor(3) as pool:
            list(pool.map(lambda each: each.wait_ready(START_TIMEOUT_S), engines))
        yield Trio(*engines)
    finally:
        with ThreadPoolExecutor(3) as pool:
            list(pool.map(Engine.stop, engines))


def post(engine: Engine, body: dict[str, Any]) -> dict[str, Any]:
    """POST a chat request to an engine; an error status is an AssertionError with the engine's words."""
    request = urllib.request.Request(f"{engine.url}/v1/chat/completions", json.dumps(body).encode())
    request.add_header("Content-Type", "application/json")
    request.add_header("Authorization", f"Bearer {engine.spec.token}")
    try:
        with urllib.request.urlopen(request, timeout=ANSWER_TIMEOUT_S) as answer:
            result: dict[str, Any] = json.load(answer)
    except urllib.error.HTTPError as error:
        raise AssertionError(f"{engine.spec.name} answered {error.code}: {error.read().decode()}") from error
    return result


def picture(seed: int, width: int = 112, height: int = 84) -> str:
    """A drawn picture as a data URL; another seed is another picture."""
    image = Image.new("RGB", (width, height), (seed * 53 % 256, 120, 255 - seed * 31 % 256))
    draw = ImageDraw.Draw(image)
    draw.ellipse((5 + seed * 7 % 40, 8, 60, 70), fill=(250, seed * 91 % 256, 20))
    draw.rectangle((width // 2, 20, width - 8, height - 9), fill=(20, 200, seed * 17 % 256))
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


def chat(pictures: Sequence[str], question: str = "What is it?", **options: Any) -> dict[str, Any]:
    """A greedy chat request about some pictures (data URLs)."""
    content: list[dict[str, Any]] = [{"type": "image_url", "image_url": {"url": url}} for url in pictures]
    content.append({"type": "text", "text": question})
    return {
        "model": "model",
        "messages": [{"role": "user", "content": content}],
        "max_tokens": TOKENS,
        "temperature": 0,
        "ignore_eos": True,
        "return_token_ids": True,
        **options,
    }


def tokens(answer: dict[str, Any]) -> list[int]:
    """The tokens of an answer."""
    ids: list[int] = answer["choices"][0]["token_ids"]
    return ids
