"""Real engines for tests: an encoder, a decoder and the unsplit engine of one model, started together."""

import base64
import io
import json
import os
import re
import secrets
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw

from chiasm.config import GatewayConfig, WireConfig
from chiasm.engine import Engine, EngineSpec
from chiasm.gateway.bodies import decode_body, encode_body, read_embedding
from chiasm.gateway.items import identify, open_images
from chiasm.gateway.parsing import MediaPart, ParsedRequest, ServingFacts, parse_chat
from chiasm.nouns import Embedding, RequestId, Role, WorkerId
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

    cores = sorted(os.sched_getaffinity(0))
    # The encoder's and the decoder's must differ (see `chiasm.cores.share_cores`); the whole one works in turn.
    cpus = {Role.ENCODER: str(cores[0]), Role.DECODER: str(cores[-1]), Role.WHOLE: None}

    def engine(role: Role, args: Sequence[str] = ()) -> Engine:
        settings = ConnectorSettings(
            worker=WorkerId(role), model_revision="test", wire=wire or WireConfig(transfer_timeout_s=20)
        )
        spec = EngineSpec(
            name=role,
            role=role,
            model=str(model),
            served_name="model",
            token=token,
            host=host,
            cpus=cpus[role],
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


def post_split(trio: Trio, body: dict[str, Any], request: str) -> dict[str, Any]:
    """The body's way through the split, as the gateway would take it; returns the decoder's answer."""
    parsed = parse(body)
    embeddings = {part.uuid: encode(trio.encoder, part, parsed.options) for part in parsed.media}
    split = json.loads(decode_body(parsed, RequestId(request), embeddings.values()))
    return post(trio.decoder, split)


def parse(body: dict[str, Any]) -> ParsedRequest:
    """The body as the gateway reads it."""
    facts = ServingFacts("model", "test", pixels_per_token=784, image_tokens=(1, 2048), max_model_len=2048, created=0)
    config = GatewayConfig(allow_processor_options=True)
    draft = parse_chat(json.dumps(body).encode(), facts, config)
    return identify(draft, open_images(draft, {}, config), facts, config, tenant="")


def encode(encoder: Engine, part: MediaPart, options: Mapping[str, Any]) -> Embedding:
    """Have one item encoded."""
    answer = post(encoder, json.loads(encode_body("model", part.uuid, part.url, options)))
    return read_embedding(part.uuid, json.dumps(answer).encode())


def report(engine: Engine) -> dict[str, dict[str, int]]:
    """What the engine's only rank holds and has done (`chiasm.plugins.EngineReport`)."""
    [rank] = json.loads(engine.get("/v1/chiasm/report"))
    found: dict[str, dict[str, int]] = rank
    return found


def metric(engine: Engine, name: str) -> float:
    """The sum of one of the engine's Prometheus counters over its labels."""
    values = re.findall(rf"^{re.escape(name)}(?:\{{.*\}})? ([0-9.e+]+)$", engine.get("/metrics"), re.MULTILINE)
    assert values, f"{engine.spec.name} has no metric {name}"
    return sum(map(float, values))


def picture(seed: int, width: int = 112, height: int = 84) -> str:
    """A drawn picture as a data URL; another seed is another picture."""
    return _data_url(_drawing(seed, width, height), "PNG")


def odd_pictures() -> list[str]:
    """As cameras and printers save them: inks for paper, see-through, turned by a note in the file, several frames."""
    turned = Image.Exif()
    turned[0x0112] = 6
    return [
        _data_url(_drawing(7).convert("CMYK"), "JPEG"),
        _data_url(_drawing(8).convert("RGBA").rotate(20), "PNG"),
        _data_url(_drawing(9, 120, 60), "JPEG", exif=turned),
        _data_url(_drawing(10), "GIF", save_all=True, append_images=[_drawing(11)]),
    ]


def _drawing(seed: int, width: int = 112, height: int = 84) -> Image.Image:
    image = Image.new("RGB", (width, height), (seed * 53 % 256, 120, 255 - seed * 31 % 256))
    draw = ImageDraw.Draw(image)
    draw.ellipse((5 + seed * 7 % 40, 8, 60, 70), fill=(250, seed * 91 % 256, 20))
    draw.rectangle((width // 2, 20, width - 8, height - 9), fill=(20, 200, seed * 17 % 256))
    draw.point((0, 0), fill=seed)  # the rest repeats itself
    return image


def _data_url(image: Image.Image, kind: str, **options: Any) -> str:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return f"data:{Image.MIME[kind]};base64,{base64.b64encode(buffer.getvalue()).decode()}"


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


CASES = {
    "no picture": chat([], "Tell me something."),
    "one picture": chat([picture(1)]),
    "several of several sizes": chat([picture(2), picture(3, 224, 140), picture(4, 60, 200)]),
    "odd pictures": chat(odd_pictures()),
    "one picture twice": chat([picture(5), picture(5)], "Are they the same?"),
    "processor options": chat([picture(6, 200, 200)], mm_processor_kwargs={"max_pixels": 128 * 128}),
}
"""What the split must answer as the unsplit engine does."""
