"""`chiasm profile`: the command, and the file that it writes."""

import gzip
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

import click
from click.core import ParameterSource
from rich.progress import BarColumn, Progress, TextColumn

from chiasm.client import EndpointError
from chiasm.client_options import PictureFile
from chiasm.client_options import api_key as api_key_option
from chiasm.client_options import endpoint as endpoint_option
from chiasm.display import table_console
from chiasm.profile.recording import contents, gaps, watch
from chiasm.telemetry.perfetto.trace import Profile, write_trace

console = table_console(soft_wrap=True)

_FILE = click.Path(dir_okay=False, path_type=Path)


@click.command()
@endpoint_option
@api_key_option
@click.option(
    "--seconds", type=click.FloatRange(0, min_open=True), default=30.0, show_default=True, help="How long to record."
)
@click.option(
    "-o",
    "--output",
    type=_FILE,
    default="trace.json",
    show_default=True,
    help="The file to write; compressed if its name ends in .gz.",
)
@click.option("--roofline", is_flag=True, help="Say also what the engines' steps were bound by.")
@click.option("--plot", type=PictureFile(), help="Like --roofline, and draw it into this file (svg or png).")
@click.option("--kv", is_flag=True, help="Record nothing, and say what images of several sizes take of the KV caches.")
def profile(
    endpoint: str, api_key: str | None, seconds: float, output: Path, roofline: bool, plot: Path | None, kv: bool
) -> None:
    """Record what a running cluster does, and write it as a file for Perfetto.

    Open the file at https://ui.perfetto.dev; it stays in your browser. There is a group of tracks for the gateway, one
    for the scheduler, and one for each worker: the steps of its engine, its queues, and what requests went through
    there. Select a slice to see its numbers; arrows lead along the way of its request. W and S zoom, A and D move.

    Send requests meanwhile: what has not ended by then is not in the file, or only in part. Ctrl-C ends the recording
    early, and writes what there is.

    \b
      chiasm profile --seconds 30 -o trace.json
      chiasm profile --seconds 120 -o trace.json.gz --endpoint http://gateway:8000
      chiasm profile --roofline --plot roofline.svg
    """
    if kv and (idle := _given("seconds", "output", "roofline", "plot")):
        raise click.UsageError(f"--kv records nothing, so {idle} would do nothing. Ask for one after the other.")
    try:
        if kv:
            _show_kv(endpoint, api_key)
            return
        if not roofline and plot is None:
            _record(endpoint, api_key, seconds, output)
            return
        from chiasm.profile.roofline import judged_machines
        from chiasm.profile.roofline import roofline as show_roofline

        machines = judged_machines(endpoint, api_key, console)
        found = _record(endpoint, api_key, seconds, output)
        records = {worker.worker: worker.records for worker in found.records.workers if worker.records is not None}
        show_roofline(records, machines, plot, console)
    except (EndpointError, OSError, ValueError, ModuleNotFoundError) as error:
        sys.exit(str(error))


def _given(*names: str) -> str:
    """Those of these options that the command line has."""
    context = click.get_current_context()
    given = [name for name in names if context.get_parameter_source(name) is ParameterSource.COMMANDLINE]
    return " and ".join(f"--{name}" for name in given)


def _record(endpoint: str, api_key: str | None, seconds: float, output: Path) -> Profile:
    console.print(f"recording what {endpoint} does for {seconds:g} s (Ctrl-C ends it early) ...")
    with _new_file(output) as file:
        columns = (TextColumn("  {task.completed:.0f} s"), BarColumn())
        with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
            task = bar.add_task("", total=seconds)
            found = watch(endpoint, api_key, seconds, lambda passed: bar.update(task, completed=passed))
        write_trace(file, found)
    console.print(f"wrote {output} ({output.stat().st_size / 1e6:.1f} MB): {contents(found)}", markup=False)
    for gap in gaps(found):
        console.print(f"  missing: {gap}", markup=False)
    console.print("open it at https://ui.perfetto.dev (it stays in your browser)")
    return found


@contextmanager
def _new_file(path: Path) -> Iterator[TextIO]:
    """A file that gets its name only if the context ends well: half a trace opens nowhere."""
    part = path.with_name(f"{path.name}.part")
    try:
        opened = gzip.open(part, "wt") if path.suffix == ".gz" else part.open("w")  # noqa: SIM115  # below
    except OSError as error:
        cure = "Name a file with -o in a folder that there is, and that you may write to."
        raise OSError(f"cannot write {path}: {error.strerror}. {cure}") from error
    try:
        with opened as file:
            yield file
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def _show_kv(endpoint: str, api_key: str | None) -> None:
    from chiasm.profile.kv import kv

    kv(endpoint, api_key, console)
