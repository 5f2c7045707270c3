"""Tables in Markdown: of rows that a template has chosen, and of all headline figures of a report."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from bench.document.figures import NOTHING, Writer, series, written
from bench.document.results import BadDocument, Report


def series_table(text: str, reports: Mapping[str, Report], may_be_none: bool = False) -> str:
    """A table of rows. `text` has their name, then a line for each column: its heading, and how its cells are written.

        scheduler.series[queued=100]
        workers: {workers:,}
        P99: {p99_ms:.2f} ms

    With `may_be_none` there may be no such rows, and then there is no table; nor in any row what a column asks for, and
    then there is no such column.

    Raises:
        BadDocument: there are no such rows, or no row has what a column asks for.
    """
    path, *lines = (line.strip() for line in text.strip().splitlines())
    rows = series(path, reports, may_be_none)
    if not rows:
        return ""
    columns = [line.partition(": ") for line in lines]
    cells = [(heading, _column(form, rows, path, may_be_none)) for heading, _, form in columns]
    there = [(heading, column) for heading, column in cells if column is not None]
    if not there:
        return ""
    return markdown([heading for heading, _ in there], list(zip(*(column for _, column in there), strict=True)))


def headline_table(report: Report) -> str:
    """All headline figures by name."""
    return markdown(("figure", "measured"), [(f"`{name}`", written(value)) for name, value in report.headline.items()])


def markdown(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table whose columns of numbers are aligned to the right."""
    numbers = [all(re.match(r"[\d–-]", row[at]) for row in rows) for at in range(len(headings))]
    ruler = ["---:" if each else "---" for each in numbers]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (headings, ruler, *rows))


def _column(form: str, rows: Sequence[Mapping[str, Any]], path: str, may_be_none: bool) -> list[str] | None:
    """Its cells; None if there is nothing in any of them, which may be."""
    cells = [_cell(form, row) for row in rows]
    if all(cell is None for cell in cells):
        if may_be_none:
            return None
        raise BadDocument(f"no row of {path} has all of {form!r}; the first has {', '.join(rows[0])}")
    return [NOTHING if cell is None else cell for cell in cells]


def _cell(form: str, row: Mapping[str, Any]) -> str | None:
    try:
        return Writer().vformat(form, (), row)
    except KeyError:
        return None
    except (ValueError, IndexError, TypeError) as error:
        raise BadDocument(f"{form!r} does not suit a row: {error}") from error
