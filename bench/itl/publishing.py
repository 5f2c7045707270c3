"""What becomes of findings: tables on the terminal, a report, plots, a page."""

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from bench.itl.fits import QUOTED_FROM
from bench.itl.page import page
from bench.itl.plan import SEED
from bench.itl.plots import Figure, as_svg, save
from bench.itl.points import Row
from bench.report import machine, versions, write_report
from bench.sheets import Sheet, fitted

WIDTH = 200  # of tables that go to a file

console = Console(highlight=False, width=None if sys.stdout.isatty() else WIDTH)


@dataclass(frozen=True)
class Results:
    """Of one run. `figures` are those to quote, `told` paragraphs of what was measured."""

    name: str
    title: str
    command: str
    figures: Mapping[str, float]
    series: Sequence[Row]
    sheets: Sequence[Sheet]
    told: Sequence[str]
    draw: Callable[[], Figure]
    setting: Mapping[str, Any]  # what was started, and with which arguments
    commit: str  # that has measured it


@dataclass(frozen=True)
class Files:
    """Where results go; None where they do not."""

    json: Path | None
    plot: Path | None
    html: Path | None


def publish(results: Results, files: Files) -> None:
    """Show them, and write what is wanted.

    Raises:
        OSError: a file cannot be written.
    """
    sheets = [*([headline_sheet(results.figures)] if results.figures else []), *results.sheets]
    for sheet in sheets:
        console.print(*fitted(sheet, console.width))
    if not results.figures:
        console.print(f"Nothing of this can be quoted: that takes {QUOTED_FROM} blocks, and few of their slots lost.")
    if files.json is not None:
        write_report(
            files.json,
            name=results.name,
            command=results.command,
            headline=results.figures,
            series=results.series,
            seeds=[SEED],
            setting=results.setting,
            measured_at=results.commit,
        )
    if files.plot is None and files.html is None:
        return
    figure = results.draw()
    if files.plot is not None:
        written = ", ".join(str(file) for file in save(figure, files.plot))
        console.print(f"drew {written}", markup=False)
    if files.html is not None:
        about = {**machine(), **versions(), **{f"setting: {name}": each for name, each in results.setting.items()}}
        files.html.parent.mkdir(parents=True, exist_ok=True)
        files.html.write_text(
            page(results.title, results.command, results.commit, results.told, as_svg(figure), sheets, about)
        )
        console.print(f"wrote {files.html}", markup=False)


def headline_sheet(figures: Mapping[str, float]) -> Sheet:
    """The figures to quote."""
    return Sheet("Headline", ["figure", "value"], [[name, f"{value:g}"] for name, value in figures.items()])
