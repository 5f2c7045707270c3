"""A timeline for people: drawn in the terminal, and as a picture."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from textwrap import shorten

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderResult
from rich.table import Table
from rich.text import Text

from chiasm.telemetry.records import Phase
from chiasm.telemetry.timelines.spans import Span
from chiasm.telemetry.timelines.timeline import Timeline

LEAST_BAR = 12  # columns, and so is the next
GAP = 2
NOTE = 60  # characters of one in a picture
MEASURES = ("at", "ms", "self")

COLOURS = {
    Phase.FETCH: "#17becf",
    Phase.ENCODE_QUEUE: "#8c8c8c",
    Phase.PREPROCESS: "#bcbd22",
    Phase.ENCODE: "#d62728",
    Phase.DECODE_QUEUE: "#8c8c8c",
    Phase.TRANSFER: "#2ca02c",
    Phase.PREFILL: "#ff7f0e",
    Phase.DECODE: "#1f77b4",
}
"""In both drawings; waits are grey, encode, prefill and decode as in the roofline."""


@dataclass(frozen=True)
class TimelineView:
    """Renders for rich: a row a span, its bar on the request's time, full as far as the request took longer for it."""

    timeline: Timeline

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield Text(_headline(self.timeline), style="bold")
        yield ""
        signs = "#-" if options.ascii_only else "█░"
        yield _gantt(self.timeline, options.max_width, signs)
        if any(span.self_seconds < span.seconds for span in self.timeline.spans):
            yield Text(f"{signs[1]} beside something that the request had to wait longer for", style="dim")
        yield ""
        yield _sums(self.timeline)
        for line in _caveats(self.timeline):
            yield Text(f"\n{line}", style="yellow")


def _headline(timeline: Timeline) -> str:
    outcome = timeline.outcome or "under way"
    tokens = f", {timeline.output_tokens} tokens" if timeline.output_tokens else ""
    return f"request {timeline.request}: {outcome}{tokens} in {_ms(timeline.wall_seconds)} ms"


def _gantt(timeline: Timeline, width: int, signs: str) -> Table:
    columns = _columns(timeline)
    while len(columns) > 1 and _width(columns) > width - LEAST_BAR:
        columns.pop()  # else rich would cut the bars off
    bar = max(LEAST_BAR, width - _width(columns))
    table = Table(box=None, padding=(0, GAP, 0, 0), pad_edge=False)
    for column in columns:
        heading = column[0]
        table.add_column(heading, justify="right" if heading in MEASURES else "left", no_wrap=True)
    table.add_column(_axis(timeline.wall_seconds, bar), width=bar)
    for row, span in enumerate(timeline.spans, 1):
        table.add_row(*(column[row] for column in columns), _bar(span, timeline, bar, signs))
    return table


def _width(columns: list[list[str]]) -> int:
    return sum(max(map(cell_len, column)) + GAP for column in columns)


def _columns(timeline: Timeline) -> list[list[str]]:
    """The texts left of the bars, each column below its heading."""
    spans = timeline.spans
    columns = [
        ["phase", *(span.phase for span in spans)],
        ["item", *("" if span.item is None else str(span.item) for span in spans)],
        ["where", *(span.worker or "" for span in spans)],
        ["at", *(_ms(span.began - timeline.arrived) for span in spans)],
        ["ms", *(_ms(span.seconds) for span in spans)],
        ["self", *(_ms(span.self_seconds) for span in spans)],
    ]
    return [column for column in columns if any(column[1:])]


def _bar(span: Span, timeline: Timeline, width: int, signs: str) -> Text:
    """Its full part comes first, since a span counts from its own beginning on. The note stands where there is room."""
    full, light = signs[0], signs[1]
    scale = width / timeline.wall_seconds
    began = min(width - 1, round((span.began - timeline.arrived) * scale))
    ended = max(began + 1, round((span.ended - timeline.arrived) * scale))
    own = math.ceil((ended - began) * span.self_seconds / span.seconds)
    bar = full * own + light * (ended - began - own), COLOURS[span.phase]
    before, behind = " " * began, ""
    if cell_len(span.note) < width - ended or not span.note:
        behind = f" {span.note}".rstrip()
    elif cell_len(span.note) < began:
        before = f"{span.note} ".rjust(began)
    else:
        behind = f"\n{span.note}"
    return Text.assemble((before, "dim"), bar, (behind, "dim"))


def _axis(seconds: float, width: int) -> str:
    return f"0{f'{_ms(seconds)} ms':>{width - 1}}"


def _sums(timeline: Timeline) -> Table:
    table = Table(box=None, padding=(0, GAP, 0, 0), pad_edge=False)
    table.add_column("critical path")
    table.add_column("ms", justify="right")
    table.add_column("share", justify="right")
    for phase, seconds in (*timeline.self_seconds.items(), ("unattributed", timeline.unattributed_seconds)):
        if seconds:
            table.add_row(phase, _ms(seconds), f"{100 * seconds / timeline.wall_seconds:.1f} %")
    return table


def _caveats(timeline: Timeline) -> Iterator[str]:
    """What is not known, and what not for certain."""
    yield from timeline.missing
    uncertain = [f"{worker} by {_ms(seconds)} ms" for worker, seconds in timeline.clock_uncertainty_seconds.items()]
    if uncertain:
        yield f"clocks may be off: {', '.join(uncertain)}"


def _ms(seconds: float) -> str:
    return f"{1000 * seconds:,.1f}"


def plot_timeline(timeline: Timeline, file: Path) -> None:
    """Draw it as a picture; the format goes by the file's ending (svg, png).

    Raises:
        ModuleNotFoundError: matplotlib is not installed.
        OSError: `file` cannot be written.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    spans = timeline.spans
    figure, axes = pyplot.subplots(figsize=(10, 1.2 + 0.26 * len(spans)), layout="constrained")
    for row, span in enumerate(spans):
        began, colour = 1000 * (span.began - timeline.arrived), COLOURS[span.phase]
        axes.barh(row, 1000 * span.seconds, left=began, height=0.7, color=colour, alpha=0.3)
        hatch = "///" if "paused" in span.note else None
        axes.barh(row, 1000 * span.self_seconds, left=began, height=0.7, color=colour, hatch=hatch, edgecolor="white")
        near_end = span.ended - timeline.arrived > 0.8 * timeline.wall_seconds
        axes.annotate(
            " ".join(filter(None, (f"{_ms(span.seconds)} ms", shorten(span.note, NOTE)))),
            (began if near_end else began + 1000 * span.seconds, row), xytext=(-4 if near_end else 4, 0),
            textcoords="offset points", ha="right" if near_end else "left", va="center", fontsize=8,
        )  # fmt: skip
    axes.set_yticks(range(len(spans)), [_label(span) for span in spans], fontsize=8)
    axes.invert_yaxis()
    axes.set(xlim=(0, 1000 * timeline.wall_seconds), xlabel="ms since its arrival")
    axes.set_title(_headline(timeline), fontsize=10)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(axis="y", length=0)
    figure.savefig(file)
    pyplot.close(figure)


def _label(span: Span) -> str:
    item = "" if span.item is None else f" of item {span.item}"
    where = "" if span.worker is None else f", {span.worker}"
    return f"{span.phase}{item}{where}"
