"""`chiasm bench vllm-epd`: its options, its help, and what it prints."""

import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from bench.load.asking import Endpoint
from bench.load.journal import Journal, OtherRun
from bench.report import write_report
from bench.streams import Unanswered
from bench.topologies.calibration import NotCalibrated
from bench.topologies.program import NotServing
from bench.topologies.resources import NotEnough
from bench.topologies.running import Remote, Running
from bench.topologies.setting import BadSetting
from bench.vllm_epd.figures import OURS, THEIRS, as_series, as_table, failed, headline, ratios
from bench.vllm_epd.plan import FULL, QUICK, SEED, settings
from bench.vllm_epd.plots import draw
from bench.vllm_epd.run import Run
from bench.vllm_epd.sides import both

console = Console(highlight=False)


@click.command("vllm-epd")
@click.option("--quick", is_flag=True, help="One round with one picture in a request, at two loads.")
@click.option("--json", "json_file", type=click.Path(dir_okay=False, path_type=Path), help="Write the figures here.")
@click.option("--plot", type=click.Path(dir_okay=False, path_type=Path), help="Draw them here (.svg or .png).")
@click.option(
    "--resume",
    "folder",
    type=click.Path(file_okay=False, path_type=Path),
    help="Keep every measurement in this folder as it is made, and do not make again what is there.",
)
@click.option(
    "--calibrated",
    is_flag=True,
    help="Ours with its prefill chunk calibrated to the objective, as chiasm serve has it, instead of vLLM's own.",
)
@click.option("--endpoint", help="Base URL of a running split; with --against nothing is started.")
@click.option("--against", help="Base URL of a running vLLM with encoder disaggregation, of the same model.")
@click.option("--api-key", envvar="CHIASM_API_KEY", help="Bearer token of those two.")
def vllm_epd(
    quick: bool,
    json_file: Path | None,
    plot: Path | None,
    folder: Path | None,
    calibrated: bool,
    endpoint: str | None,
    against: str | None,
    api_key: str | None,
) -> None:
    """Compare the split with vLLM's own encoder disaggregation (EPD).

    vLLM can split as well: one server encodes and writes embeddings to files, another reads them, prefills and decodes,
    and a proxy drives the two as in vLLM's documentation. Here that gets what Chiasm's split gets: the same model, of
    120 M parameters, the first of two cores for the encoder and the second for the decoder, the same arguments and KV
    cache, and the same requests at the same moments, with pictures that no cache has seen. Its servers are vLLM's
    alone; those of the split have Chiasm's telemetry in them, as they always do.

    \b
    ttft_p50_vs_vllm_epd     time to first token, ours to theirs, below 1 is sooner: at 60 % of what theirs does at most
    throughput_vs_vllm_epd   output tokens/s, ours to theirs, above 1 is more: of requests that come all at once

    With one picture in a request and with four, each by a name of its own (..._1img, ..._4img); the names above have
    the less favourable of the two. The rates are 30, 60 and 90 % of what theirs does at most, which is measured first,
    and then everything at once, beyond what anybody can do. The series has every point. Both sides take turns, five
    rounds; a ratio is of the same round, the median counts, and the spread is shown.

    Both have vLLM's own prefill chunk, so that the split itself is what differs. --calibrated measures ours as chiasm
    serve ships it, with the chunk that the objective for inter-token latency allows: a run of its own, with its own
    --json and --resume.

    It takes two cores, however many there are, 12 GB of memory, and about ten minutes beside starting engines. Nothing
    else should run meanwhile.
    """
    if (endpoint is None) != (against is None):
        raise click.UsageError("--endpoint and --against belong together: both sides run already, or neither does.")
    if endpoint is not None and calibrated:
        raise click.UsageError("How the endpoint was started is not for this to say. Leave --calibrated out.")
    plan = QUICK if quick else FULL
    given = {"--quick": quick, "--calibrated": calibrated}
    given |= {f"--endpoint {endpoint}": endpoint is not None, f"--against {against}": against is not None}
    command = " ".join(["chiasm bench vllm-epd", *(option for option, wanted in given.items() if wanted)])
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    journal = None if folder is None else _journal(folder, settings(plan) | {"command": command})
    try:
        with (
            _ready(endpoint, against, api_key, calibrated) as endpoints,
            Progress(*columns, console=console) as progress,
        ):
            run = Run(plan, endpoints, journal, progress)
            run.measure()
    except (BadSetting, NotCalibrated, NotEnough, NotServing, OtherRun) as error:
        sys.exit(str(error))
    except Unanswered as error:
        sys.exit(f"Nothing is reported, for {error}")
    found = ratios(run.series)
    figures = headline(found)
    for images in plan.images:
        console.print(as_table(run.series, found, images))
    for side, count in failed(run.series).items():
        if count:
            console.print(f"[red]{count} requests to {side} failed; the figures are of the others")
    for name, figure in figures.items():
        console.print(f"{name:<32}{figure:g}")
    if json_file is not None:
        series = as_series(run.series, found)
        write_report(json_file, name="vllm_epd", command=command, headline=figures, series=series, seeds=[SEED])
    if plot is not None:
        draw(run.series, plot)


def _journal(folder: Path, settings: Mapping[str, Any]) -> Journal:
    try:
        return Journal(folder, settings)
    except OtherRun as error:
        sys.exit(str(error))
    except OSError as error:
        sys.exit(f"cannot keep measurements in {folder}: {error.strerror}. Name a folder that can be written to.")


@contextmanager
def _ready(
    endpoint: str | None, against: str | None, api_key: str | None, calibrated: bool
) -> Iterator[dict[str, Endpoint]]:
    if endpoint is not None and against is not None:
        yield _endpoints({OURS: Remote(endpoint, api_key), THEIRS: Remote(against, api_key)})
        return
    with ExitStack() as stack:
        with console.status("making the bench model, unless that is done, and starting both sides ..."):
            endpoints = _endpoints(stack.enter_context(both(calibrated)))
        yield endpoints


def _endpoints(running: dict[str, Running]) -> dict[str, Endpoint]:
    for one in running.values():
        one.wait_ready()
    return {side: one.endpoint for side, one in running.items()}
