"""What `chiasm bench serve` does to one server: puts it under load, or has two tools do so."""

import math
import secrets
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from bench.load.asking import Endpoint, served_model
from bench.load.workloads import Workload
from bench.model import build_bench_model
from bench.report import write_report
from bench.serve import cross_check, one_server
from bench.serve.options import Options, objectives_of, worded_for, workload_of
from bench.serve.sides import up
from bench.topologies.arrangement import Arrangement
from bench.topologies.setting import Setting

WORKLOAD = "mixed"
NUMBER, QUICK_NUMBER = 100, 24  # requests
QUICK_S = 30.0  # of arrivals


def load_server(options: Options, command: str, console: Console) -> None:
    """Ends the program where a request failed, once figures are out.

    Raises:
        Unreachable: the server lists no model.
        Unanswered: a warm-up failed.
        click.UsageError: options contradict each other.
    """
    if options.bursts > 1 and (options.rate is None or options.burstiness is not None):
        raise click.UsageError("--bursts needs a --rate to come at, and has no --burstiness.")
    endpoint = _named(options)
    rate = options.rate or math.inf
    load = one_server.Load(
        workload=_workload(endpoint, options, console),
        rate=rate,
        number=_number(options, rate),
        burstiness=options.burstiness or 1.0,
        seed=options.seed,
        bursts=options.bursts,
        nonce=secrets.token_hex(8),
        max_concurrency=options.max_concurrency,
        warmups=options.num_warmups,
    )
    if load.warmups:
        with console.status(f"warming up {endpoint.url} ..."):
            one_server.warm_up(endpoint, load)
    with _progress(console) as progress:
        task = progress.add_task(f"{load.workload.name} to {endpoint.url}", total=load.whole)
        answers = one_server.measure(endpoint, load, lambda _: progress.advance(task))
    row = one_server.row(endpoint, load, answers, objectives_of(options.goodput))
    for table in one_server.tables(row):
        _printed().print(table)
    if options.json_file is not None:
        quoted = {name: row[name] for name in one_server.QUOTED if name in row}
        _write(options, "serve_one", command, quoted, [row])
    if failed := [answer for answer in answers if not answer.ok]:
        sys.exit(f"{len(failed)} of {load.whole} requests failed, the first with: {failed[0].error}")


def check_server(options: Options, command: str, console: Console) -> None:
    """The server is --endpoint, or a monolithic engine.

    Raises:
        Unreachable: the server lists no model.
        NotEnough, NotServing: there is none, and none could be started.
        GeneratorFailed, BadWorkload: see `cross_check`.
    """
    with _server(options, console) as (endpoint, tokenizer):
        check = cross_check.Check(
            workload=_workload(endpoint, options, console),
            number=options.number or (cross_check.QUICK_NUMBER if options.quick else cross_check.NUMBER),
            rounds=options.rounds or (cross_check.QUICK_ROUNDS if options.quick else cross_check.ROUNDS),
            seed=options.seed,
            nonce=secrets.token_hex(8),
            burstiness=options.burstiness or math.inf,
            rate=options.rate,
        )
        with _progress(console) as progress:
            found = cross_check.cross_check(endpoint, tokenizer, check, progress)
    series = cross_check.rows(found)
    for table in cross_check.tables(series):
        _printed().print(table)
    if options.json_file is not None:
        _write(options, "cross_check", command, cross_check.headline(series), series)


def _number(options: Options, rate: float) -> int:
    if options.number is not None or not options.quick:
        return options.number or NUMBER
    return QUICK_NUMBER if math.isinf(rate) else max(1, min(NUMBER, round(rate * QUICK_S)))


@contextmanager
def _server(options: Options, console: Console) -> Iterator[tuple[Endpoint, str]]:
    """And its tokenizer."""
    if options.endpoint is not None:
        endpoint = _named(options)
        yield endpoint, options.tokenizer or endpoint.model
        return
    with ExitStack() as stack:
        with console.status("making the bench model, unless that is done, and starting an engine ..."):
            setting = Setting(build_bench_model())
            wake = stack.enter_context(up([Arrangement.MONO], setting, None, lambda _what, _chunks: None))
        yield wake[Arrangement.MONO](), options.tokenizer or str(setting.model)


def _named(options: Options) -> Endpoint:
    assert options.endpoint is not None
    url = options.endpoint.rstrip("/").removesuffix("/v1")
    return Endpoint(url, options.model or served_model(url, options.api_key), options.api_key)


def _workload(endpoint: Endpoint, options: Options, console: Console) -> Workload:
    names = options.workload_names or (WORKLOAD,)
    if len(names) > 1:
        raise click.UsageError("One server is put under one --workload at a time. Leave the others out.")
    workload, remark = worded_for(endpoint, workload_of(names[0], options.random_mm))
    if remark is not None:
        console.print(remark)
    return workload


def _progress(console: Console) -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    return Progress(*columns, console=console)


def _printed() -> Console:
    return Console(width=None if sys.stdout.isatty() else 120, highlight=False)


def _write(
    options: Options, name: str, command: str, headline: Mapping[str, float], series: Sequence[Mapping[str, Any]]
) -> None:
    assert options.json_file is not None
    write_report(options.json_file, name=name, command=command, headline=headline, series=series, seeds=[options.seed])
