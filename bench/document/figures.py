"""A figure by its name, and how it is written.

steal.headline.text_burst_vs_two_engines
steal.headline.image_ttft_p*_on_vs_off           a star stands for what depends on the number of samples
matched steal.headline.image_ttft_p*_on_vs_off   what the star stood for: 99
steal.series[traffic=mixed, block=all, arrangement=off].images    of the one row that fits
sum pupil.series.asked                           also min, max and median; of all rows that fit and have it
maybe serve.series[what=loses].where             a dash where there is no such row, or it has no such column
count clients.series[client=vllm]                of rows
steal.command, steal.commit
"""

import re
import statistics
import string
from collections.abc import Callable, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any

from bench.document.results import BadDocument, Report

OF_SEVERAL: Mapping[str, Callable[[Sequence[Any]], Any]] = {
    "sum": sum,
    "min": min,
    "max": max,
    "median": statistics.median,
}
NOTHING = "–"
_EXPRESSION = re.compile(r"(?:(?P<of>sum|min|max|median|count|matched|maybe) )?(?P<report>[\w-]+)\.(?P<part>.+)")
_SERIES = re.compile(r"series(?:\[(?P<where>.*)\])?(?:\.(?P<column>[\w*]+))?")


def figure(expression: str, reports: Mapping[str, Report]) -> Any:
    """What a name stands for, as it is in the JSON.

    Raises:
        BadDocument: nothing has that name, or several have.
    """
    found = _EXPRESSION.fullmatch(expression)
    if found is None:
        raise BadDocument(f"{expression!r} is no figure's name; bench/document/figures.py says how they look")
    report, of, part = report_of(found["report"], reports), found["of"], found["part"]
    if of is None and part in ("command", "commit"):
        return getattr(report, part)
    kind, _, name = part.partition(".")
    if kind == "headline" and of in (None, "matched", "maybe"):
        return _of_headline(report.headline, name, of, expression)
    rows = series(f"{found['report']}.{part}", reports, may_be_none=of == "maybe")
    if of == "count":
        return len(rows)
    column = _series_part(part)["column"] or ""
    values = [row[name] for row in rows for name in _fitting(column, row)]
    if of in OF_SEVERAL and values:
        return OF_SEVERAL[of](values)
    if of == "maybe" and not values:
        return None
    if len(values) != 1:
        raise BadDocument(f"{expression!r} fits {len(values)} values, not one; the first row has {', '.join(rows[0])}")
    return values[0]


def series(path: str, reports: Mapping[str, Report], may_be_none: bool = False) -> list[dict[str, Any]]:
    """The rows of `steal.series`, or those of `steal.series[column=value, ...]` whose columns are so.

    Raises:
        BadDocument: there are none, unless that may be.
    """
    name, _, part = path.partition(".")
    pairs = [pair.partition("=") for pair in (_series_part(part)["where"] or "").split(",") if pair]
    where = {column.strip(): value.strip() for column, _, value in pairs}
    rows = [
        row
        for row in report_of(name, reports).series
        if all(str(row.get(column)) == value for column, value in where.items())
    ]
    if not rows and not may_be_none:
        raise BadDocument(f"no row of bench/results/{name}.json fits {path!r}")
    return rows


def report_of(name: str, reports: Mapping[str, Report]) -> Report:
    """The report of that name.

    Raises:
        BadDocument: there is none.
    """
    if name not in reports:
        raise BadDocument(
            f"there is no bench/results/{name}.json. Cure: surround it with {{{{with {name}}}}}, {{{{end}}}}"
        )
    return reports[name]


class Writer(string.Formatter):
    """`str.format` over a row: columns' names may have a star, and there is a space before a percent sign."""

    def get_value(self, key: int | str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        """Of the column that the key names. Raises KeyError if the row has none, or several, or nothing in it."""
        names = _fitting(str(key), kwargs)
        if len(names) != 1 or kwargs[names[0]] is None:
            raise KeyError(key)
        return kwargs[names[0]]

    def format_field(self, value: Any, format_spec: str) -> str:
        """One number."""
        text = str(super().format_field(value, format_spec))
        return f"{text[:-1]} %" if format_spec.endswith("%") else text


def written(value: Any, spec: str = "") -> str:
    """By Python's format specification, or readably: three digits, thousands with commas; a dash for None.

    Raises:
        BadDocument: the specification does not suit the value.
    """
    if value is None:
        return NOTHING
    if not spec and isinstance(value, int | float):
        spec = ",.0f" if abs(value) >= 100 or value == int(value) else "#.3g"
    try:
        return Writer().format_field(value, spec).removesuffix(".")
    except ValueError as error:
        raise BadDocument(f"{value!r} cannot be written as {spec!r}: {error}") from error


def _of_headline(headline: Mapping[str, Any], pattern: str, of: str | None, expression: str) -> Any:
    names = _fitting(pattern, headline)
    if of == "maybe" and not names:
        return None
    if len(names) != 1:
        raise BadDocument(f"{expression!r} fits {len(names)} of these figures: {', '.join(headline)}")
    before, _, after = pattern.partition("*")
    return names[0][len(before) : len(names[0]) - len(after)] if of == "matched" else headline[names[0]]


def _series_part(part: str) -> re.Match[str]:
    found = _SERIES.fullmatch(part)
    if found is None:
        raise BadDocument(f"{part!r} is no part of a report: headline, series, command and commit are")
    return found


def _fitting(pattern: str, values: Mapping[str, Any]) -> list[str]:
    return [pattern] if pattern in values else [name for name in values if fnmatchcase(name, pattern)]
