"""Draw the Grafana dashboard without Grafana: `.venv/bin/python tools/draw_dashboard.py http://127.0.0.1:9090 OUT.png`.

Reads the panels, their places and their queries from the dashboard's own JSON, asks a Prometheus server these queries
over a span of time, and draws what it answers. It knows as much of Grafana as that dashboard uses; the picture says
what it was drawn by.
"""

import json
import math
import re
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

DASHBOARD = Path(__file__).parents[1] / "chiasm" / "telemetry" / "grafana" / "dashboard.json"
TIMEOUT_S = 30.0
COLUMNS = 24  # of Grafana's grid
COLUMN_IN, ROW_IN, HEAD_IN = 0.9, 0.42, 0.6  # inches
POINTS = 240  # of a series, at most


@dataclass(frozen=True)
class Span:
    """A span of time in unix seconds, the step between two points, and how far back `rate` looks, in seconds."""

    start: float
    end: float
    step: float
    rate_interval: float


@dataclass(frozen=True)
class Series:
    """One line of a panel: values at unix seconds."""

    name: str
    times: list[float]
    values: list[float]


class NoAnswer(RuntimeError):
    """Prometheus did not answer a query; the message says why."""


def panels_of(dashboard: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Rows and panels.

    Raises:
        ValueError: one is of a kind that this tool cannot draw.
    """
    panels: list[dict[str, Any]] = dashboard["panels"]
    if unknown := {panel["type"] for panel in panels} - {"row", "timeseries"}:
        raise ValueError(f"this tool draws no panels of type {', '.join(sorted(unknown))}. Teach it, or use others.")
    return panels


def substituted(expression: str, variables: Mapping[str, str]) -> str:
    """A query with its variables replaced, as `$name` or `${name}`.

    Raises:
        KeyError: it has one that is not among them.
    """
    return re.sub(r"\$(?:\{(\w+)\}|(\w+))", lambda found: variables[found[1] or found[2]], expression)


def ask(prometheus: str, query: str, span: Span) -> list[tuple[dict[str, str], list[float], list[float]]]:
    """Labels, times and values of everything that a range query finds.

    Raises:
        NoAnswer: Prometheus cannot be reached, or refuses the query.
    """
    asked = urllib.parse.urlencode({"query": query, "start": span.start, "end": span.end, "step": span.step})
    try:
        with urllib.request.urlopen(f"{prometheus}/api/v1/query_range?{asked}", timeout=TIMEOUT_S) as answer:
            found = json.load(answer)["data"]["result"]
    except urllib.error.HTTPError as error:
        with error:
            raise NoAnswer(f"Prometheus refuses {query}: {error.read().decode(errors='replace')}") from error
    except (OSError, ValueError, KeyError) as error:
        raise NoAnswer(f"no answer from Prometheus at {prometheus}: {error}. Is that its address?") from error
    return [
        (one["metric"], [float(time) for time, _ in one["values"]], [float(value) for _, value in one["values"]])
        for one in found
    ]


def series_of(panel: Mapping[str, Any], prometheus: str, span: Span, variables: Mapping[str, str]) -> list[Series]:
    """What a panel shows."""
    found = []
    for target in panel["targets"]:
        for labels, times, values in ask(prometheus, substituted(target["expr"], variables), span):
            found.append(Series(_named(target["legendFormat"], labels), times, values))
    return found


def _named(legend: str, labels: Mapping[str, str]) -> str:
    name = re.sub(r"\{\{(\w+)\}\}", lambda found: labels.get(found[1], ""), legend)
    return name or ", ".join(f"{label}={value}" for label, value in labels.items())


def draw(dashboard: Mapping[str, Any], prometheus: str, span: Span, variables: Mapping[str, str], out: Path) -> None:
    """The whole dashboard as a picture."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib.figure import Figure

    panels = panels_of(dashboard)
    rows = max(panel["gridPos"]["y"] + panel["gridPos"]["h"] for panel in panels)
    width, height = COLUMNS * COLUMN_IN, rows * ROW_IN + HEAD_IN
    figure = Figure(figsize=(width, height), dpi=80)
    about = (
        f"{dashboard['title']}: drawn from the dashboard's JSON and its queries by tools/draw_dashboard.py, not by "
        f"Grafana\n{prometheus}, {_moment(span.start)} to {_moment(span.end)} UTC, {_chosen(variables)}"
    )
    figure.text(0.3 / width, 1 - 0.2 / height, about, va="top", fontsize=11)
    for panel in panels:
        place = panel["gridPos"]
        left, top = place["x"] * COLUMN_IN / width, 1 - (HEAD_IN + place["y"] * ROW_IN) / height
        if panel["type"] == "row":
            figure.text(left + 0.3 / width, top - 0.35 / height, panel["title"], fontsize=13, fontweight="bold")
            continue
        wide, high = place["w"] * COLUMN_IN / width, place["h"] * ROW_IN / height
        # Room for the title above, the legend and the times below, and the values to the left.
        box = (left + 0.7 / width, top - high + 0.95 / height, wide - 0.9 / width, high - 1.3 / height)
        _draw_panel(figure.add_axes(box), panel, series_of(panel, prometheus, span, variables), span)
    figure.savefig(out)


def _draw_panel(axes: Any, panel: Mapping[str, Any], found: list[Series], span: Span) -> None:
    from matplotlib.dates import AutoDateLocator, ConciseDateFormatter, date2num

    defaults = panel["fieldConfig"]["defaults"]
    stacking = defaults["custom"]["stacking"]["mode"]
    axes.set_title(panel["title"], fontsize=10, loc="left")
    axes.tick_params(labelsize=7)
    axes.grid(alpha=0.3)
    axes.set_xlim(date2num(_utc(span.start)), date2num(_utc(span.end)))
    axes.xaxis.set_major_locator(locator := AutoDateLocator(maxticks=6, tz=UTC))
    axes.xaxis.set_major_formatter(ConciseDateFormatter(locator, tz=UTC, show_offset=False))  # the head has the day
    axes.yaxis.set_major_formatter(_formatter("percentunit" if stacking == "percent" else defaults["unit"]))
    shown = [one for one in found if any(map(math.isfinite, one.values))]
    if not shown:
        axes.text(0.5, 0.5, "no data", transform=axes.transAxes, ha="center", va="center", color="grey")
        return
    if stacking == "none":
        for one in shown:
            axes.plot([date2num(_utc(time)) for time in one.times], one.values, linewidth=1, label=one.name)
    else:
        times = sorted({time for one in shown for time in one.times})
        layers = [_at(times, one) for one in shown]
        if stacking == "percent":
            sums = [sum(layer[place] for layer in layers) or 1.0 for place in range(len(times))]
            layers = [[value / whole for value, whole in zip(layer, sums, strict=True)] for layer in layers]
        axes.stackplot([date2num(_utc(time)) for time in times], layers, labels=[one.name for one in shown], alpha=0.7)
    axes.set_ylim(defaults["min"], 1 if stacking == "percent" else defaults.get("max"))
    axes.legend(loc="upper left", bbox_to_anchor=(-0.05, -0.12), ncols=4, fontsize=7, frameon=False, borderpad=0)


def _at(times: list[float], series: Series) -> list[float]:
    """Its values at those times, 0 where it has none."""
    known = dict(zip(series.times, series.values, strict=True))
    return [value if math.isfinite(value := known.get(time, 0.0)) else 0.0 for time in times]


def _formatter(unit: str) -> Any:
    from matplotlib.ticker import EngFormatter, FuncFormatter, PercentFormatter

    if unit == "percentunit":
        return PercentFormatter(1.0)
    if unit == "s":
        return EngFormatter("s", sep="")
    suffix = {"reqps": "/s", "cps": "/s", "Bps": "B/s"}.get(unit, "")
    thousands = EngFormatter(suffix, sep="")
    return FuncFormatter(lambda value, _: thousands(value) if abs(value) >= 1000 else f"{value:g}{suffix}")


def _utc(time: float) -> datetime:
    return datetime.fromtimestamp(time, UTC)


def _moment(time: float) -> str:
    return f"{_utc(time):%Y-%m-%d %H:%M:%S}"


def _chosen(variables: Mapping[str, str]) -> str:
    return ", ".join(f"{name} {value}" for name, value in variables.items())


@click.command()
@click.argument("prometheus")
@click.argument("out", type=click.Path(path_type=Path, dir_okay=False))
@click.option("--minutes", default=60.0, show_default=True, help="So many, up to --until.")
@click.option("--until", type=float, help="Unix seconds; now unless given.")
@click.option("--scrape-interval", default=15.0, show_default=True, help="Seconds, as Prometheus is configured.")
@click.option("--pool", default=".+", show_default=True, help="The dashboard's variable, a regular expression.")
@click.option("--worker", default=".+", show_default=True, help="Likewise.")
@click.option("--dashboard", type=click.Path(path_type=Path, exists=True), default=DASHBOARD, help="Another one.")
def main(
    prometheus: str,
    out: Path,
    minutes: float,
    until: float | None,
    scrape_interval: float,
    pool: str,
    worker: str,
    dashboard: Path,
) -> None:
    """Draw the dashboard into OUT (.png, .svg, .pdf), from the Prometheus server at the address PROMETHEUS."""
    end = until if until is not None else datetime.now(UTC).timestamp()
    step = max(60 * minutes / POINTS, 1.0)
    # As Grafana has it.
    span = Span(end - 60 * minutes, end, step, max(step + scrape_interval, 4 * scrape_interval))
    variables = {"pool": pool, "worker": worker, "__rate_interval": f"{span.rate_interval:.0f}s"}
    try:
        draw(json.loads(dashboard.read_text()), prometheus.rstrip("/"), span, variables, out)
    except (NoAnswer, ValueError) as error:
        raise click.ClickException(str(error)) from error
    click.echo(f"{out}: drawn from {dashboard.name} and {prometheus}")


if __name__ == "__main__":
    main()
