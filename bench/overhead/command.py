"""`chiasm bench overhead`: its options, its help, and what it prints."""

import sys
from pathlib import Path

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from bench.json_option import json_option
from bench.load.asking import Unreachable
from bench.overhead.figures import as_lines, as_series, blocks_table, headline, intervals
from bench.overhead.plan import FULL, QUICK, SEED, Traffic
from bench.overhead.run import Run
from bench.overhead.ways import NoSuchEngine, ways_through
from bench.report import commit, write_report
from bench.streams import Unanswered
from bench.topologies.program import NotServing
from bench.topologies.setting import BadSetting
from chiasm.client import EndpointError

console = Console(stderr=True, highlight=False)


@click.command()
@click.option("--quick", is_flag=True, help="Three short blocks of everything: enough to see that it works.")
@json_option
@click.option(
    "--endpoint",
    help="Base URL of a running cluster's gateway, on the machine of its engine; unset starts two clusters in turn.",
)
@click.option("--api-key", envvar="CHIASM_API_KEY", help="Bearer token of --endpoint, which lets you see its status.")
def overhead(quick: bool, json_file: Path | None, endpoint: str | None, api_key: str | None) -> None:
    """Measure what gateway and scheduler add, against the very same engine asked directly.

    Requests go to a cluster's gateway and to its engine's own address, in turn: the same lengths, and a text and a
    picture that no other has, so that no cache helps the second. Latency is of requests that come one at a time. A
    burst is twice as many as the engine runs at once (as many, with --quick), so that it is full; what counts is output
    tokens per second.

    \b
    added_ttft_p50_ms
        time to first token through the gateway, less the direct one: the median
        of pairs
    added_per_token_ms
        the same of each further token
    added_per_token_mean_ms
        the same as a mean over pairs
    throughput_vs_direct
        tokens/s of a burst through the gateway, to that of a direct one
    small_model_throughput_vs_direct
        the same where a token costs the engine next to nothing
    image_added_...
        as above, of requests with a picture

    Every figure is the mean over the blocks, with its 95 % interval.

    Latencies are of the built-in model, since front-ends show most where the engine is quick; throughput is of a model
    of 120 M parameters. Each has one whole worker, on which text and pictures can be asked for directly: a decoder
    takes pictures from encoders only. What a split adds or spares an image is another matter: chiasm bench serve. Both
    ways end in the same engine, so what Chiasm's own hooks cost in there is in neither: chiasm bench profile.

    It takes two cores, however many there are, 10 GB of memory, and eight minutes, two of them for starting
    engines. The engine has one of the two cores; gateway and scheduler have the other, as `chiasm serve` places
    them, and the client has both. Nothing else should run meanwhile.

    With --endpoint the cluster must have one decoder or one whole worker, no stealing, and no other traffic.
    """
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    measured_at = commit()
    try:
        with Progress(*columns, console=console) as progress:
            run = Run(QUICK if quick else FULL, progress)
            if endpoint is None:
                run.on_clusters_of_its_own()
            else:
                run.on(ways_through(endpoint, api_key))
    except (BadSetting, NotServing, Unreachable, EndpointError, NoSuchEngine) as error:
        sys.exit(str(error))
    except Unanswered as error:
        sys.exit(f"Nothing is reported, for not every request was answered: {error}")
    found = intervals(run.series)
    printed = Console(highlight=False, width=None if sys.stdout.isatty() else 160)
    for traffic in Traffic:
        if (table := blocks_table(run.series, traffic)) is not None:
            printed.print(table)
    for line in as_lines(found):
        printed.print(line)
    if json_file is not None:
        given = {"--quick": quick, f"--endpoint {endpoint}": endpoint}
        command = " ".join(["chiasm bench overhead", *(option for option, wanted in given.items() if wanted)])
        series = as_series(run.series, found)
        write_report(
            json_file,
            name="overhead",
            command=command,
            headline=headline(found),
            series=series,
            seeds=[SEED],
            setting={"nonce": run.nonce},
            measured_at=measured_at,
        )
