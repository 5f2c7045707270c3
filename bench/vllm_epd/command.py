"""`chiasm bench vllm-epd`: its options, its help, and what it prints."""

import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from bench.json_option import json_option
from bench.load.journal import Journal, OtherRun
from bench.model import build_bench_model
from bench.report import write_report
from bench.streams import Unanswered
from bench.topologies.calibration import NotCalibrated
from bench.topologies.program import NotServing
from bench.topologies.resources import NotEnough
from bench.topologies.running import Remote, Running
from bench.topologies.setting import BadSetting, Setting
from bench.vllm_epd.figures import OURS, THEIRS, as_series, as_table, failed, headline, ratios
from bench.vllm_epd.plan import FULL, QUICK, SEED, settings
from bench.vllm_epd.plots import draw
from bench.vllm_epd.run import Run
from bench.vllm_epd.sides import both

console = Console(highlight=False)


@click.command("vllm-epd")
@click.option("--quick", is_flag=True, help="One round with one picture in a request, at two loads.")
@json_option
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
    cache, and the same requests at the same moments, with pictures of 64 to 256 tokens that no cache has seen. Its
    servers are vLLM's alone; those of the split have Chiasm's telemetry in them, as they always do.

    \b
    ttft_p50_vs_vllm_epd    time to first token, ours to theirs, below 1 is
                            sooner: at 60 % of what theirs does at most
    throughput_vs_vllm_epd  output tokens/s, ours to theirs, above 1 is more: of
                            requests that come all at once

    With one picture in a request and with two, each by a name of its own (..._1img, ..._2img); the names above have
    the less favourable of the two. Rates are 60 and 90 % of what theirs does at most (with two pictures 60 %), which is
    measured first, and then several at once, more than an encoder can take up. A point has 25 requests or more. Both
    sides take turns, five rounds; a ratio is of the same round, the median counts, and the spread is shown. A point at
    which any request failed is in no figure above. The series has every point. The side that is not asked is stopped
    meanwhile.

    Both have vLLM's own prefill chunk, so that the split itself is what differs. --calibrated measures ours as chiasm
    serve ships it, with the chunk that the objective for inter-token latency allows: a run of its own, with its own
    --json and --resume.

    It takes two cores, however many there are, 13 GB of memory, and about thirteen minutes beside starting engines.
    Nothing else should run meanwhile.
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
    try:
        setting = _setting() if endpoint is None else None
        described = {} if setting is None else setting.described()
        with (
            _journal(folder, settings(plan) | {"command": command, "setting": described}) as journal,
            _ready(setting, endpoint, against, api_key, calibrated) as running,
            Progress(*columns, console=console) as progress,
        ):
            journal.note("prefill chunks", {side: one.chunks for side, one in running.items()})
            run = Run(plan, running, journal, progress)
            run.measure()
            described |= {"prefill_chunks": journal.noted("prefill chunks"), "nonce": journal.nonce}
    except (BadSetting, NotCalibrated, NotEnough, NotServing, OtherRun) as error:
        sys.exit(str(error))
    except Unanswered as error:
        sys.exit(f"Nothing is reported, for {error}")
    found = ratios(run.series)
    figures = headline(found)
    for images in plan.levels:
        console.print(as_table(run.series, found, images))
    for side, count in failed(run.series).items():
        if count:
            console.print(f"[red]{count} requests to {side} failed; no figure to quote is of a point where one did")
    for name, figure in figures.items():
        console.print(f"{name:<32}{figure:g}")
    if json_file is not None:
        series = as_series(run.series, found)
        write_report(
            json_file,
            name="vllm_epd",
            command=command,
            headline=figures,
            series=series,
            seeds=[SEED],
            setting=described,
            measured_at=journal.commit,
        )
    if plot is not None:
        draw(run.series, plot)


def _setting() -> Setting:
    with console.status("making the bench model, unless that is done ..."):
        return Setting(build_bench_model())


@contextmanager
def _journal(folder: Path | None, settings: Mapping[str, Any]) -> Iterator[Journal]:
    if folder is None:
        with tempfile.TemporaryDirectory(prefix="chiasm-vllm-epd-") as elsewhere:
            yield Journal(Path(elsewhere), settings)
        return
    try:
        journal = Journal(folder, settings)
    except OSError as error:
        sys.exit(f"cannot keep measurements in {folder}: {error.strerror}. Name a folder that can be written to.")
    yield journal


@contextmanager
def _ready(
    setting: Setting | None, endpoint: str | None, against: str | None, api_key: str | None, calibrated: bool
) -> Iterator[dict[str, Running]]:
    with ExitStack() as stack:
        if endpoint is not None and against is not None:
            running: dict[str, Running] = {OURS: Remote(endpoint, api_key), THEIRS: Remote(against, api_key)}
            _wait(running)
        else:
            assert setting is not None
            with console.status("starting both sides ..."):
                running = stack.enter_context(both(setting, calibrated))
                _wait(running)
        yield running


def _wait(running: Mapping[str, Running]) -> None:
    for one in running.values():
        one.wait_ready()
