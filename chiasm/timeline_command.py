"""`chiasm timeline`: where the time of one request went."""

import sys
from pathlib import Path

import click
import msgspec

from chiasm.client import EndpointError, get_json, request_path
from chiasm.client_options import PictureFile, api_key, endpoint, request_id
from chiasm.display import table_console
from chiasm.telemetry.timelines.timeline import Timeline
from chiasm.telemetry.timelines.view import TimelineView, plot_timeline

console = table_console()


@click.command()
@request_id
@endpoint
@api_key
@click.option("--json", "as_json", is_flag=True, help="The gateway's answer as it is.")
@click.option("--plot", type=PictureFile(), help="Draw it into this file (svg or png).")
def timeline(request_id: str, endpoint: str, api_key: str | None, as_json: bool, plot: Path | None) -> None:
    """Show where the time of a request went: its eight phases, on which worker each ran, and which it had to wait for.

    REQUEST_ID is the X-Request-Id of the answer; `chiasm ask --timing` prints it. A request can also bring its timeline
    in its own answer: send the header `X-Chiasm-Timeline: true`.

    Engines and gateways remember the latest requests only (telemetry.timelines). What nobody remembers any more is
    named below.
    """
    try:
        told = get_json(endpoint, request_path(request_id), api_key)
        course = msgspec.convert(told, Timeline)
    except EndpointError as error:
        sys.exit(str(error))
    except msgspec.ValidationError as error:
        sys.exit(f"{endpoint} speaks another version of Chiasm: {error}. Use the same on both sides.")
    if as_json:
        console.print_json(data=told)
    else:
        console.print(TimelineView(course))
    if plot is not None:
        try:
            plot_timeline(course, plot)
        except (OSError, ModuleNotFoundError) as error:
            sys.exit(str(error))
