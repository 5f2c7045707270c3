"""The picture of `chiasm bench itl`. Imports matplotlib when it draws."""

import importlib.util
import io
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from bench.itl import fits
from bench.itl.findings import Findings
from bench.itl.plan import Kind
from bench.itl.points import Row
from bench.itl.slots import Seen

STYLES = {Kind.LIVE: "-", Kind.ENCODED: "-.", Kind.TEXT: ":"}
SUFFIXES = (".svg", ".png")
ALIKE = 1.03  # of the tokens of two loads that count as one place on the axis

Figure = Any
"""matplotlib's."""


def can_draw() -> bool:
    """Whether matplotlib is installed."""
    return importlib.util.find_spec("matplotlib") is not None


def save(figure: Figure, file: Path) -> list[Path]:
    """As both SVG and PNG, beside each other, whichever of them `file` names; returns both."""
    file.parent.mkdir(parents=True, exist_ok=True)
    files = [file.with_suffix(suffix) for suffix in SUFFIXES]
    for each in files:
        figure.savefig(each, dpi=150)
    return files


def as_svg(figure: Figure) -> str:
    """An `<svg>` element, for a page."""
    text = io.StringIO()
    figure.savefig(text, format="svg")
    whole = text.getvalue()
    return whole[whole.index("<svg") :]


def new_figure(rows: int, columns: int) -> tuple[Figure, list[Any]]:
    """A figure of so many panels, and these in order."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib.figure import Figure as NewFigure

    figure = NewFigure(figsize=(4.6 * columns, 3.8 * rows), layout="constrained")
    return figure, list(figure.subplots(rows, columns, squeeze=False).flat)


def draw(found: Findings, slots: Sequence[Seen]) -> Figure:
    """Latencies over the tokens that carriers bring, on every side; bursts; growth; KV bytes. What nothing is known of
    has no panel.
    """
    figure, panels = new_figure(2, 4)
    drive = slots[0].drive.name
    single = [row for row in found.points if row["at_once"] == 1 and row["drive"] == drive and row["blocks"]]
    _over_tokens(panels[0], single, lambda row: row["bystander_itl_mean_ms"], found.sides, noise=True)
    _label(panels[0], "Bystanders: mean ITL", "ms")
    share = "p99" if all("bystander_itl_p99_ms" in row for row in single) else "p95"
    _over_tokens(panels[1], single, lambda row: row.get(f"bystander_itl_{share}_ms"), found.sides)
    _label(panels[1], f"Bystanders: {share.upper()} of ITL", "ms")
    _over_tokens(panels[2], single, lambda row: row["stall_ms"], found.sides)
    _label(panels[2], "Bystanders: added to ITLs by one carrier", "ms")
    _bursts(panels[3], found.sides, slots)
    _over_tokens(panels[4], single, lambda row: row.get("carrier_ttft_p50_ms"), found.sides)
    _label(panels[4], "Carriers: median TTFT", "ms")
    _carrier_tpot(panels[5], found, single)
    _growth(panels[6], found)
    _over_tokens(panels[7], single, lambda row: row.get("carrier_kv_bytes", 0) / 1e6 or None, found.sides)
    _label(panels[7], "KV cache of one carrier", "MB")
    for panel in panels:
        panel.set_visible(bool(panel.lines))
    return figure


def _over_tokens(
    panel: Any,
    points: Iterable[Row],
    figure_of: Callable[[Row], float | None],
    sides: Sequence[str],
    noise: bool = False,
) -> None:
    for number, side in enumerate(sides):
        for kind, style in STYLES.items():
            rows = [row for row in points if row["side"] == side and row["kind"] in (str(kind), "")]
            told = [(row["tokens"], y) for row in rows if (y := figure_of(row)) is not None]
            if not told or not any(row["kind"] for row in rows):
                continue
            panel.plot(*zip(*told, strict=True), "o", markersize=3, color=f"C{number}")
            panel.plot(*zip(*_line(told), strict=True), style, color=f"C{number}", label=f"{side}, {kind}")
            for row in rows if noise else ():
                lowest, highest = row["bystander_itl_mean_lowest_ms"], row["bystander_itl_mean_highest_ms"]
                panel.vlines(row["tokens"], lowest, highest, color=f"C{number}", alpha=0.3)
    panel.set_xlabel("prompt tokens of the load")


def _line(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """In order, loads of about as many tokens as one, at their mean."""
    alike: list[list[tuple[float, float]]] = []
    for x, y in sorted(points):
        if alike and x <= ALIKE * alike[-1][0][0]:
            alike[-1].append((x, y))
        else:
            alike.append([(x, y)])
    return [(fmean(x for x, _ in group), fmean(y for _, y in group)) for group in alike]


def _label(panel: Any, title: str, unit: str) -> None:
    panel.set_title(title)
    panel.set_ylabel(unit)
    if panel.get_yscale() == "linear":
        panel.set_ylim(bottom=0)  # when all is drawn: it fixes the top as well
    if panel.get_legend_handles_labels()[0]:
        panel.legend(fontsize="x-small")


def _bursts(panel: Any, sides: Sequence[str], slots: Sequence[Seen]) -> None:
    """Which part of bystanders' gaps is longer, in slots of the largest burst of pictures."""
    for number, side in enumerate(sides):
        counted = [one for one in fits.bursts(slots, side) if one.slot.load.pictures and one.failure is None]
        most = max((one.slot.pixels for one in counted), default=0)
        gaps_ms = sorted(1000 * gap_s for one in counted if one.slot.pixels == most for gap_s in one.gaps_s)
        if gaps_ms:
            longer = [1 - rank / len(gaps_ms) for rank in range(len(gaps_ms))]
            panel.step(gaps_ms, longer, where="post", color=f"C{number}", label=side)
    panel.set_xscale("log")
    panel.set_yscale("log")
    panel.set_xlim(left=10)
    panel.set_xlabel("ms")
    _label(panel, "Bystanders: gaps in slots of the largest burst", "part of gaps that are as long")


def _carrier_tpot(panel: Any, found: Findings, single: Sequence[Row]) -> None:
    _over_tokens(panel, single, lambda row: row.get("carrier_tpot_p50_ms"), found.sides)
    most = max((row["at_once"] for row in found.points), default=1)
    for number, side in enumerate(found.sides):
        rows = [row for row in found.points if row["at_once"] == most > 1 and row["side"] == side and row["blocks"]]
        told = sorted(
            (most * row["tokens"], row["carrier_tpot_p50_ms"]) for row in rows if "carrier_tpot_p50_ms" in row
        )
        if told:
            panel.plot(*zip(*told, strict=True), "s--", color=f"C{number}", label=f"{side}, bursts of {most}")
    panel.set_xlabel("prompt tokens of the load, or of the burst")
    _label(panel, "Carriers: median TPOT", "ms")


def _growth(panel: Any, found: Findings) -> None:
    prefix = "stall_ms_of_"
    for row in found.growths:
        told = {int(key.removeprefix(prefix)): ms for key, ms in row.items() if key.startswith(prefix)}
        if told:
            panel.plot(list(told), list(told.values()), "o-", label=f"{row['side']}: {row['verdict']}")
    panel.set_xlabel("image requests at once")
    _label(panel, "Bystanders: added to ITLs by all of them", "ms")
