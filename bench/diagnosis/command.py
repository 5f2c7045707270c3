"""`chiasm diagnose URL`: the checks that come before re-architecting."""

import secrets
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from bench.diagnosis.careful import Stopped
from bench.diagnosis.findings import TooLittle, find, points, usual_gap_of
from bench.diagnosis.kv import kv_table
from bench.diagnosis.metrics import Page
from bench.diagnosis.phases import phases
from bench.diagnosis.plan import FEWEST_SWEEPS, FULL, QUICK, Effort, announced
from bench.diagnosis.rows import headline, series
from bench.diagnosis.run import Diagnosis, measure, metrics_of
from bench.diagnosis.server import NoConfiguration, Server, configuration, look
from bench.diagnosis.show import Report, show
from bench.diagnosis.sizes import Sent, named, recorded, sizes_option
from bench.diagnosis.together import together
from bench.diagnosis.verdict import decide
from bench.load.asking import Unreachable
from bench.load.workloads import BadWorkload
from bench.report import write_report
from chiasm.config import SchedulerConfig

OBJECTIVE_MS = SchedulerConfig().itl_slo_ms
NARROW = 80  # columns, where nobody looks

console = Console(highlight=False, width=None if sys.stdout.isatty() else NARROW)


@click.command()
@click.argument("url")
@click.option("--sizes", callback=sizes_option, help="Pictures that your clients send, e.g. 448x448,1344x896.")
@click.option(
    "--workload",
    type=click.Path(dir_okay=False, exists=True, path_type=Path),
    help="Take the sizes from this file: a chat body, or a row shaped like VisionArena's, a line (JSONL).",
)
@click.option(
    "--itl-slo-ms",
    "objective_ms",
    type=click.FloatRange(0, min_open=True),
    default=OBJECTIVE_MS,
    show_default=True,
    help="The longest gap that a stream may have; the verdict goes by it.",
)
@click.option("--answer-tokens", type=click.IntRange(1), default=128, show_default=True, help="Tokens of your answers.")
@click.option(
    "--model", help="The model's folder or hub id, for KV bytes; unset takes the server's folder if it is here."
)
@click.option("--key", envvar="OPENAI_API_KEY", help="Bearer token, if the server wants one.")
@click.option("--rate", type=click.FloatRange(0, min_open=True), help="Begin no more requests a second than this.")
@click.option("--minutes", type=click.FloatRange(1), help=f"Take so long at most.  [default: {FULL.limit_s / 60:g}]")
@click.option("--quick", is_flag=True, help="Within a minute, with wider intervals.")
@click.option("--yes", is_flag=True, help="Do not ask before putting load on the server.")
@click.option("--json", "json_file", type=click.Path(dir_okay=False, path_type=Path), help="Write the figures here.")
def diagnose(
    url: str,
    sizes: tuple[tuple[int, int], ...],
    workload: Path | None,
    objective_ms: float,
    answer_tokens: int,
    model: str | None,
    key: str | None,
    rate: float | None,
    minutes: float | None,
    quick: bool,
    yes: bool,
    json_file: Path | None,
) -> None:
    """Say whether the running server at URL would gain from a split: its encoder on cards of its own.

    URL is of vLLM, or of any server with OpenAI's API. Streams of text run there, and beside them come pictures of
    growing size, and texts of as many tokens: what pictures cost beyond those is the encode, and that alone is what
    a split takes away. It says beforehand what load that is, and waits for a yes.

    \b
      chiasm diagnose http://127.0.0.1:8000 --sizes 448x448,1344x896
      chiasm diagnose https://models.example/v1 --workload requests.jsonl --rate 0.5
    """
    if sizes and workload:
        raise click.UsageError("--sizes and --workload both say what your clients send. Give one of them.")
    if quick and minutes:
        raise click.UsageError("--quick takes a minute, so --minutes does not go with it.")
    try:
        sent = recorded(workload) if workload else named(sizes)
        server = look(url, key)
        if model or server.folder:
            console.print("reading the model's configuration ...")
        config = configuration(server, model)
        page = metrics_of(server)
        effort = QUICK if quick else _longer(minutes)
        _agree(server, page, sent, effort, rate, yes)
        seed = secrets.randbelow(1 << 31)  # another one each time: what came before may be in the server's caches
        with _progress() as say:
            done = measure(server, sent, effort, rate, seed, say)
        report = _report(done, sent, page, effort, objective_ms, answer_tokens, config)
    except (BadWorkload, NoConfiguration, Stopped, TooLittle, Unreachable) as error:
        sys.exit(str(error))
    except KeyboardInterrupt:
        console.print("stopped: nothing more is sent, and the server is told to drop what was under way")
        sys.exit(130)
    show(report, console)
    if json_file is not None:
        command = " ".join(["chiasm diagnose", server.endpoint.url, *(["--quick"] if quick else [])])
        rows = [{"what": "server", "model": server.endpoint.model}, *series(report)]
        write_report(json_file, name="diagnose", command=command, headline=headline(report), series=rows, seeds=[seed])


def _longer(minutes: float | None) -> Effort:
    """The whole diagnosis, with more or fewer sweeps where the time is another."""
    if minutes is None:
        return FULL
    times = 60 * minutes / FULL.limit_s
    sweeps, rounds = (max(FEWEST_SWEEPS, round(times * each)) for each in (FULL.sweeps, FULL.rounds))
    return replace(FULL, limit_s=60 * minutes, sweeps=sweeps, rounds=rounds)


def _agree(server: Server, page: Page | None, sent: Sent, effort: Effort, rate: float | None, yes: bool) -> None:
    """Say what is about to be sent, and end the program unless that is wanted."""
    console.print(f"{server.endpoint.url} serves {server.endpoint.model}", markup=False)
    if page is None:
        console.print("It has no metrics of vLLM at /metrics: some of this will be less sure, and says so.")
    else:
        console.print(f"It has vLLM's metrics: {page.running} requests run now, and {page.waiting} wait.")
    pictures = ", ".join(f"{width} x {height}" for width, height in sent.sizes)
    whose = "that your clients send" if sent.told else "that you may send (say it: --sizes)"
    console.print(f"Pictures {whose}: {pictures}.")
    if sent.unseen:
        console.print(f"{sent.unseen} of the {sent.pictures} in the file are left out: their sizes cannot be told.")
    console.print()
    for sentence in announced(effort, len(sent.sizes), server.endpoint.url, rate):
        console.print(sentence, markup=False)
    if not yes:
        click.confirm("Go on?", abort=True)


@contextmanager
def _progress() -> Iterator[Callable[[str], None]]:
    """What is being done, and for how long already."""
    columns = (SpinnerColumn(), TextColumn("{task.description}", markup=False), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("")
        yield lambda what: progress.update(task, description=what)


def _report(
    done: Diagnosis,
    sent: Sent,
    page: Page | None,
    effort: Effort,
    objective_ms: float,
    answer_tokens: int,
    config: Mapping[str, Any] | None,
) -> Report:
    gap_s = usual_gap_of(done.measured)
    seen = points(done.measured, gap_s)
    found = find(seen, gap_s, done.known.ladder, done.known.judged)
    return Report(
        sent=sent,
        page=page,
        found=found,
        phases=phases(found, answer_tokens),
        kv=kv_table(done.known.sizes, config, page.cache if page else None, answer_tokens),
        together=together(seen, effort.bursts),
        objective_ms=objective_ms,
        verdict=decide(found, objective_ms),
    )
