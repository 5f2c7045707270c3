"""`chiasm bench kv-bytes`: what a request takes of the KV cache, by its images: computed, and in engines.

One request at a time is answered at length. While it runs, the engines' metrics say which part of their caches is taken
and how many tokens they have generated; `telemetry.live.kv_room` says what the request should take by then.
"""

import base64
import io
import sys
import urllib.error
import urllib.request
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
from PIL import Image
from prometheus_client.parser import text_string_to_metric_families
from rich.console import Console
from rich.table import Table

from bench.json_option import json_option
from bench.report import write_report
from bench.serving import serving_builtin_model
from chiasm.api_paths import CHAT_PATH
from chiasm.ask import chat_body, served_model
from chiasm.client import EndpointError, post_stream
from chiasm.profile.machines import ask_machines
from chiasm.telemetry.live.kv_room import kv_room, kv_token_bytes
from chiasm.telemetry.live.machine import Machine, Machines

ANSWER_TOKENS = 256  # so many that the request still runs when the metrics are read, at its first token
TIMEOUT_S = 30.0

console = Console(highlight=False)

Case = tuple[int, tuple[int, int]]
"""So many images of that width and height in a request."""

CASES: Sequence[Case] = tuple((images, size) for size in ((224, 224), (1280, 720)) for images in (1, 2, 4, 8))
QUICK_CASES = (CASES[0], CASES[3])


@dataclass(frozen=True)
class Reading:
    """Of an engine's metrics, at one moment."""

    taken: float  # part of the KV cache, 0 to 1
    generated: float  # tokens, since it started


def read_page(page: str) -> Reading:
    """What a page of vLLM's metrics says of it.

    Raises:
        ValueError: it says nothing of a KV cache, or of generated tokens.
    """
    values: dict[str, float] = {}
    for family in text_string_to_metric_families(page):
        for sample in family.samples:
            values[sample.name] = values.get(sample.name, 0.0) + sample.value
    try:
        return Reading(values["vllm:kv_cache_usage_perc"], values["vllm:generation_tokens_total"])
    except KeyError as error:
        raise ValueError(f"no {error} among the engine's metrics; this needs the metrics of vLLM 0.32") from error


def compared(
    machine: Machine, case: Case, image_tokens: int, prompt_tokens: int, before: Reading, during: Reading
) -> dict[str, Any]:
    """A row: what one request took between two readings of the engine that answered it, and what was to be expected.

    `image_tokens` are those of all its images.
    """
    images, (width, height) = case
    generated = round(during.generated - before.generated)
    expected = kv_room(machine, prompt_tokens, generated)
    blocks = round((during.taken - before.taken) * machine.kv_blocks)
    block_bytes = machine.kv_block_tokens * kv_token_bytes(machine)
    return {
        "images": images,
        "width": width,
        "height": height,
        "image_tokens": image_tokens,
        "prompt_tokens": prompt_tokens,
        "generated_tokens": generated,
        "image_kv_bytes": image_tokens * kv_token_bytes(machine),
        "computed_blocks": expected.blocks,
        "computed_bytes": expected.nbytes,
        "allocated_blocks": blocks,
        "allocated_bytes": blocks * block_bytes,
    }


def headline(rows: Sequence[dict[str, Any]]) -> dict[str, float]:
    """How far computed and allocated lie apart, and what the most images take."""
    largest = max(rows, key=lambda row: float(row["image_tokens"]))
    return {
        "most_blocks_apart": max(abs(row["computed_blocks"] - row["allocated_blocks"]) for row in rows),
        "allocated_over_computed": round(
            sum(row["allocated_bytes"] for row in rows) / sum(row["computed_bytes"] for row in rows), 4
        ),
        "most_image_kv_bytes": largest["image_kv_bytes"],
    }


@click.command("kv-bytes")
@click.option("--quick", is_flag=True, help="The least and the most images alone.")
@json_option
@click.option("--endpoint", help="Base URL of a running, idle endpoint; unset serves the built-in model.")
@click.option("--api-key", envvar="CHIASM_API_KEY", help="Bearer token, if the endpoint wants one.")
def kv_bytes(quick: bool, json_file: Path | None, endpoint: str | None, api_key: str | None) -> None:
    """Compare what requests with images should take of the KV cache with what engines give them."""
    with nullcontext(endpoint) if endpoint else serving_builtin_model(console) as url:
        try:
            rows = _rows(url, api_key, QUICK_CASES if quick else CASES)
        except (EndpointError, ValueError) as error:
            sys.exit(str(error))
    console.print(_table(rows))
    if json_file is not None:
        command = "chiasm bench kv-bytes" + (" --quick" if quick else "")
        write_report(json_file, name="kv_bytes", command=command, headline=headline(rows), series=rows)


def _rows(endpoint: str, api_key: str | None, cases: Sequence[Case]) -> list[dict[str, Any]]:
    asked = ask_machines(endpoint, api_key)
    model = served_model(endpoint, api_key)
    return [_row(endpoint, api_key, asked, model, case) for case in cases]


def _row(endpoint: str, api_key: str | None, asked: Machines, model: str, case: Case) -> dict[str, Any]:
    images, size = case
    caches = [name for name, machine in asked.machines.items() if machine.kv_blocks]
    before = {name: _read(endpoint, name) for name in caches}
    if busy := [name for name, reading in before.items() if reading.taken]:
        raise EndpointError(f"{busy[0]} has other requests. Run this while the endpoint has none.")
    body = chat_body(
        model,
        [_picture(size, number) for number in range(images)],
        "What is this?",
        max_tokens=ANSWER_TOKENS,
        temperature=0,
        ignore_eos=True,
        stream=True,
        stream_options={"include_usage": True},
    )
    with post_stream(endpoint, CHAT_PATH, body, api_key) as (events, _):
        next(events)
        during = {name: _read(endpoint, name) for name in caches}
        usage = next(event["usage"] for event in events if event.get("usage"))
    answered = [name for name, reading in during.items() if reading.taken]
    if len(answered) != 1:
        raise EndpointError(f"{len(answered)} engines had a request where one was to. Run this on an idle endpoint.")
    [name] = answered
    image_tokens = images * asked.images.estimate(*size)
    return compared(asked.machines[name], case, image_tokens, usage["prompt_tokens"], before[name], during[name])


def _read(endpoint: str, worker: str) -> Reading:
    try:
        with urllib.request.urlopen(f"{endpoint.rstrip('/')}/metrics/workers/{worker}", timeout=TIMEOUT_S) as answer:
            return read_page(answer.read().decode())
    except (urllib.error.URLError, OSError) as error:
        raise EndpointError(f"the gateway does not pass on the metrics of {worker}: {error}") from error


def _picture(size: tuple[int, int], number: int) -> str:
    """One of its own for each size and number."""
    file = io.BytesIO()
    Image.new("RGB", size, (size[0] % 256, size[1] % 256, number)).save(file, "PNG")
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()


def _table(rows: Sequence[dict[str, Any]]) -> Table:
    table = Table(title="KV cache of one request", title_justify="left")
    for column in ("images", "image tokens", "prompt", "generated", "their KV MB", "computed MB", "allocated MB"):
        table.add_column(column, justify="right")
    for row in rows:
        table.add_row(
            f"{row['images']} of {row['width']} x {row['height']}",
            *(f"{row[name]:,}" for name in ("image_tokens", "prompt_tokens", "generated_tokens")),
            *(f"{row[name] / 1e6:.3f}" for name in ("image_kv_bytes", "computed_bytes", "allocated_bytes")),
        )
    return table
