"""`chiasm diagnose URL`: the checks that come before re-architecting."""

import secrets
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource
from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from bench.diagnosis.asking import NoConfiguration, Stopped, configuration, look
from bench.diagnosis.findings import Untold, find
from bench.diagnosis.kv import kv_table
from bench.diagnosis.plan import FEWEST_SWEEPS, FULL, QUICK, Effort, announced
from bench.diagnosis.rows import headline, raw, series
from bench.diagnosis.run import Task, measure, metrics_of
from bench.diagnosis.show import Report, show
from bench.diagnosis.sizes import Sent, named, recorded, sizes_option
from bench.diagnosis.sweeping import Measured
from bench.diagnosis.verdict import decide
from bench.json_option import json_option
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
@click.option("--pictures-per-request", "per_request", type=click.IntRange(1), help="So many of them.  [default: 1]")
@click.option(
    "--workload",
    type=click.Path(dir_okay=False, exists=True, path_type=Path),
    help="Take both from this file: a chat body, or a row shaped like VisionArena's, a line (JSONL).",
)
@click.option(
    "--itl-slo-ms",
    "objective_ms",
    type=click.FloatRange(0, min_open=True),
    default=OBJECTIVE_MS,
    show_default=True,
    help="What P99 of gaps may be; the verdict compares the longest gap beside pictures, on average, with it.",
)
@click.option("--answer-tokens", type=click.IntRange(1), default=128, show_default=True, help="Tokens of your answers.")
@click.option("--model", help="Which of the models that it serves; unset takes the first that it lists.")
@click.option(
    "--config", "source", help="The model's folder or hub id, for KV bytes; unset takes the server's folder if here."
)
@click.option("--api-key", "key", envvar="OPENAI_API_KEY", help="Bearer token, if the server wants one.")
@click.option("--rate", type=click.FloatRange(0, min_open=True), help="Begin no more requests a second than this.")
@click.option("--minutes", type=click.FloatRange(1), help=f"Take so long at most.  [default: {FULL.limit_s / 60:g}]")
@click.option("--quick", is_flag=True, help="Within a minute, with wider intervals.")
@click.option("--yes", is_flag=True, help="Do not ask before putting load on the server.")
@json_option
@click.pass_context
def diagnose(
    context: click.Context,
    url: str,
    sizes: tuple[tuple[int, int], ...],
    per_request: int | None,
    workload: Path | None,
    objective_ms: float,
    answer_tokens: int,
    model: str | None,
    source: str | None,
    key: str | None,
    rate: float | None,
    minutes: float | None,
    quick: bool,
    yes: bool,
    json_file: Path | None,
) -> None:
    """Say whether the running server at URL would gain from a split: its encoder on cards of its own.

    URL is of vLLM, or of a server that takes vLLM's ignore_eos. Streams of text run there, and beside them come
    pictures of growing size, and texts of as many tokens: what pictures cost beyond those is the encode, and that
    alone is what a split takes away. It says beforehand what load that is, and waits for a yes.

    \b
      chiasm diagnose http://127.0.0.1:8000 --sizes 448x448,1344x896
      chiasm diagnose https://models.example/v1 --workload sent.jsonl --rate 0.5
    """
    if sizes and workload:
        raise click.UsageError("--sizes and --workload both say what your clients send. Give one of them.")
    if quick and minutes:
        raise click.UsageError("--quick takes a minute, so --minutes does not go with it.")
    measured = Measured()
    try:
        sent = _sent(sizes, per_request, workload)
        server = look(url, key, model)
        if source or server.folder:
            console.print("reading the model's configuration ...")
        config = configuration(server, source)
        seed = secrets.randbelow(1 << 31)  # another one each time: what came before may be in the server's caches
        task = Task(server, metrics_of(server), sent, QUICK if quick else _longer(minutes), rate, seed)
        _agree(task, yes)
    except (BadWorkload, NoConfiguration, Unreachable) as error:
        sys.exit(str(error))
    stopped, code = _measured(task, measured)
    report = None
    try:
        report = _report(task, measured, config, objective_ms, answer_tokens)
        show(report, console)
    except Untold as error:
        stopped, code = stopped or str(error), code or 1
    if json_file is not None:
        _write(json_file, _command_line(context), task, measured, report, stopped)
    if stopped is not None:
        console.print("\nThis is of what was measured until it was stopped." if report else "", markup=False)
        console.print(stopped, markup=False)
        sys.exit(code)


def _sent(sizes: tuple[tuple[int, int], ...], per_request: int | None, workload: Path | None) -> Sent:
    found = recorded(workload) if workload else named(sizes, 1)
    return found if per_request is None else replace(found, per_request=per_request)


def _longer(minutes: float | None) -> Effort:
    """The whole diagnosis, with more or fewer sweeps where the time is another."""
    if minutes is None:
        return FULL
    times = 60 * minutes / FULL.limit_s
    sweeps, rounds = (max(FEWEST_SWEEPS, round(times * each)) for each in (FULL.sweeps, FULL.rounds))
    return replace(FULL, limit_s=60 * minutes, watch_s=min(1.0, times) * FULL.watch_s, sweeps=sweeps, rounds=rounds)


def _agree(task: Task, yes: bool) -> None:
    """Say what is about to be sent, and end the program unless that is wanted."""
    endpoint, page, sent = task.server.endpoint, task.page, task.sent
    console.print(f"{endpoint.url} serves {endpoint.model}", markup=False)
    if task.server.others:
        console.print(f"Not asked (name it, --model): {', '.join(task.server.others)}.", markup=False)
    if task.server.is_chiasm:
        console.print("It is Chiasm. If it has encoders, images are split off already: the verdict is of the rest.")
    if page is None:
        console.print("It has no metrics of vLLM at /metrics: some of this will be less sure, and says so.")
    else:
        console.print(f"It has vLLM's metrics: {page.running} requests run now, and {page.waiting} wait.")
        if task.engine is not None:
            console.print(f"It has {len(page.engines)} engines, of which engine {task.engine} is asked.")
    pictures = ", ".join(f"{width} x {height}" for width, height in sent.sizes)
    whose = "that your clients send" if sent.told else "that you may send (say it: --sizes)"
    console.print(f"Pictures {whose}: {pictures}; {sent.per_request} a request.")
    if sent.unseen:
        console.print(f"{sent.unseen} of the {sent.pictures} in the file are left out: their sizes cannot be told.")
    console.print()
    for sentence in announced(task.effort, sent, endpoint.url, task.per_s, metrics=page is not None):
        console.print(sentence, markup=False)
    if not yes:
        click.confirm("Go on?", abort=True)


def _measured(task: Task, measured: Measured) -> tuple[str | None, int]:
    """Why it ended early, if it did, and the exit code that says so."""
    try:
        with _progress() as say:
            measure(task, say, measured)
    except Stopped as error:
        return str(error), 1
    except KeyboardInterrupt:
        return "stopped: nothing more is sent, and the server is told to drop what was under way", 130
    return None, 0


@contextmanager
def _progress() -> Iterator[Callable[[str], None]]:
    """What is being done, and for how long already."""
    columns = (SpinnerColumn(), TextColumn("{task.description}", markup=False), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("")
        yield lambda what: progress.update(task, description=what)


def _report(
    task: Task, measured: Measured, config: Mapping[str, Any] | None, objective_ms: float, answer_tokens: int
) -> Report:
    known = measured.known
    if known is None:
        raise Untold("Nothing was measured beside streams yet.")
    found = find(measured, known, task.effort.bursts)
    return Report(
        sent=task.sent,
        page=task.page,
        traffic=measured.traffic,
        found=found,
        kv=kv_table(known.sizes, config, task.page.cache if task.page else None, answer_tokens),
        objective_ms=objective_ms,
        answer_tokens=answer_tokens,
        verdict=decide(found, objective_ms),
    )


def _write(
    path: Path, command: str, task: Task, measured: Measured, report: Report | None, stopped: str | None
) -> None:
    about = {"what": "server", "model": task.server.endpoint.model, "stopped": stopped}
    write_report(
        path,
        name="diagnose",
        command=command,
        headline={} if report is None else headline(report),
        series=[about, *raw(measured), *(() if report is None else series(report))],
        seeds=[task.seed],
    )


def _command_line(context: click.Context) -> str:
    """As it was given, but for the key."""
    words = ["chiasm diagnose", context.params["url"]]
    for option in context.command.params:
        name = option.name or ""
        given = context.get_parameter_source(name) is ParameterSource.COMMANDLINE
        if given and isinstance(option, click.Option) and name not in ("key", "json_file"):
            value = context.params[name]
            if name == "sizes":
                value = ",".join(f"{width}x{height}" for width, height in value)
            words += [option.opts[0]] if option.is_flag else [option.opts[0], str(value)]
    return " ".join(words)
