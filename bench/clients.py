"""`chiasm bench clients`: do the load generators that people already use get an answer to each of their requests?

AIPerf and `vllm bench serve`, neither of them changed, ask about pictures of random sizes, 1, 8 and 32 at a time. A
request counts as answered only if its answer came in full length: both tools would accept a shorter one.
"""

import shutil
import sys
import tempfile
from collections.abc import Iterable, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from bench.json_option import json_option
from bench.load_generators import AIPerf, GeneratorFailed, Load, LoadGenerator, Target, VllmBench, run_load
from bench.report import ROOT, write_report
from bench.serving import serving_builtin_model
from chiasm.client import EndpointError, get_json
from chiasm.models.builtin import named_model

FULL = (Load(1, 200), Load(8, 400), Load(32, 1000))
QUICK = (Load(8, 24),)  # starting the two tools takes most of a minute
TIMEOUT_S = 1800.0
AIPERF_PLACES = (ROOT / ".venv-aiperf" / "bin" / "aiperf", Path(sys.executable).parent / "aiperf")


def find_aiperf(places: Iterable[Path] = AIPERF_PLACES) -> Path:
    """AIPerf's command: where `make aiperf` installs it, else wherever PATH has it.

    Raises:
        click.UsageError: it is not installed.
    """
    for place in places:
        if place.exists():
            return place
    if found := shutil.which("aiperf"):
        return Path(found)
    raise click.UsageError("AIPerf is not installed. Cure: make aiperf, or name its command with --aiperf.")


def find_target(url: str, tokenizer: str | None) -> Target:
    """What the endpoint serves, and with which tokenizer its prompts are made.

    Raises:
        EndpointError: the endpoint does not answer.
    """
    model = str(get_json(url, "/v1/models")["data"][0]["id"])
    if tokenizer is None:
        tokenizer = named_model(model)
    folder = Path(tokenizer)
    return Target(url.rstrip("/"), model, str(folder.resolve()) if folder.is_dir() else tokenizer)


def measure(
    generators: Sequence[LoadGenerator], loads: Sequence[Load], target: Target, progress: Progress
) -> list[Any]:
    """The series: a point for each generator under each load.

    Raises:
        GeneratorFailed: a generator gave no report.
    """
    task = progress.add_task("", total=len(generators) * len(loads))
    points = []
    for load in loads:
        for generator in generators:
            progress.update(
                task, description=f"{generator.name}, {load.requests} requests, {load.concurrency} at a time"
            )
            with tempfile.TemporaryDirectory(prefix="chiasm-clients-") as folder:
                points.append(run_load(generator, target, load, Path(folder), TIMEOUT_S))
            progress.advance(task)
    return points


def headline(series: Sequence[dict[str, Any]]) -> dict[str, float]:
    """How many of all requests were answered, and each generator's throughput and mean time to first token."""
    sent = sum(point["num_prompts"] for point in series)
    figures = {"success_percent": 100 * sum(point["completed"] for point in series) / sent}
    for point in series:
        for figure in ("request_throughput", "mean_ttft_ms"):
            figures[f"{point['client']}_c{point['max_concurrency']}_{figure}"] = point[figure]
    return figures


def as_table(series: Sequence[dict[str, Any]]) -> Table:
    """What a person reads."""
    table = Table(title="answers to load generators (times in ms, – where too few samples)")
    for column in ("client", "at a time", "requests", "answered", "requests/s"):
        table.add_column(column, justify="left" if column == "client" else "right")
    for column in ("mean TTFT", "p95 TTFT", "mean TPOT", "p95 ITL", "p99 ITL", "mean E2EL"):
        table.add_column(column, justify="right")
    for point in series:
        table.add_row(
            f"{point['client']} {point['version']}",
            *(str(point[name]) for name in ("max_concurrency", "num_prompts", "completed")),
            f"{point['request_throughput']:.2f}",
            *(
                f"{point[name]:.1f}" if name in point else "–"
                for name in ("mean_ttft_ms", "p95_ttft_ms", "mean_tpot_ms", "p95_itl_ms", "p99_itl_ms", "mean_e2el_ms")
            ),
        )
    return table


@click.command()
@click.option("--quick", is_flag=True, help="One load of few requests.")
@json_option
@click.option(
    "--endpoint", help="Base URL of a running endpoint; unset serves the built-in model for as long as needed."
)
@click.option("--tokenizer", help="Folder or hub name of the endpoint's tokenizer; unset takes the model's.")
@click.option("--aiperf", type=click.Path(dir_okay=False, exists=True, path_type=Path), help="AIPerf's command.")
def clients(
    quick: bool, json_file: Path | None, endpoint: str | None, tokenizer: str | None, aiperf: Path | None
) -> None:
    """Put AIPerf and vllm bench serve on an endpoint, with images of random sizes.

    The exit code is 0 only if every request was answered in full length.
    """
    generators: list[LoadGenerator] = [VllmBench(), AIPerf(aiperf.resolve() if aiperf else find_aiperf())]
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    serving = serving_builtin_model(console) if endpoint is None else nullcontext(endpoint)
    try:
        with serving as url, Progress(*columns, console=console) as progress:
            series = measure(generators, QUICK if quick else FULL, find_target(url, tokenizer), progress)
    except (EndpointError, GeneratorFailed) as error:
        sys.exit(str(error))
    Console(width=None if sys.stdout.isatty() else 160).print(as_table(series))
    if json_file is not None:
        given = {"--quick": quick, f"--endpoint {endpoint}": endpoint, f"--tokenizer {tokenizer}": tokenizer}
        command = " ".join(["chiasm bench clients", *(option for option, wanted in given.items() if wanted)])
        seeds = sorted({load.seed for load in (QUICK if quick else FULL)})
        write_report(json_file, name="clients", command=command, headline=headline(series), series=series, seeds=seeds)
    if unanswered := sum(point["failed"] for point in series):
        sys.exit(f"{unanswered} requests were not answered in full")
