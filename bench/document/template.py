"""A page whose prose is typed and whose figures are not.

Between double braces a template names what comes from the results:

    {{steal.headline.text_burst_vs_two_engines}}         a figure (`bench.document.figures`), readably
    {{steal.headline.pause_to_encode_p50_ms | .0f}}      the same, by Python's format specification
    {{table scheduler.series[queued=100]                 a table of rows (`bench.document.tables`)
    workers: {workers:,}
    }}
    {{some itl.series[what=growth]                       the same, if there are such rows; else nothing
    {{headline steal}}                                   a table of all headline figures
    {{made steal}} {{machine steal}} {{versions steal}}  by which command, on what, with what (`.provenance`)
    {{when steal.headline.text_burst_vs_two_engines >= 0.95 ? met | missed}}    the one or the other text; what has no
                                                         figure has a dash
    {{picture stealing.svg: What it shows}}              the picture, if there is one
    {{missing}}                                          which parts were left out, and the commands they wait for
    {{steps}}                                            what `make bench` and `make bench-all` run

On lines of their own, `{{with steal, wire}}` and `{{end}}` surround a part that is left out as long as one of these
results is missing.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from operator import ge, gt, le, lt
from pathlib import Path
from typing import Any

from bench.document.figures import NOTHING, figure, report_of, written
from bench.document.plan import HEADLINE, STEPS, maker_of
from bench.document.provenance import machine, made, versions
from bench.document.results import BadDocument, Report
from bench.document.tables import headline_table, markdown, series_table

_PART = re.compile(r"^\{\{with (.+?)\}\}\n(.*?)^\{\{end\}\}\n", re.MULTILINE | re.DOTALL)
_NAMED = re.compile(r"\{\{(.+?)\}\}", re.DOTALL)
_CONDITION = re.compile(r"(?P<figure>.+) (?P<sign><=|>=|<|>) (?P<limit>-?[\d.]+) \?(?P<then>[^|]*)\|(?P<otherwise>.*)")
_SIGNS: Mapping[str, Callable[[Any, Any], bool]] = {"<=": le, ">=": ge, "<": lt, ">": gt}
_HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)


@dataclass
class Template:
    """The text, and what fills it: reports by the names of their files, and the folder that the page will lie in."""

    text: str
    reports: Mapping[str, Report]
    folder: Path
    _missing: list[str] = field(default_factory=list, init=False)

    def filled(self) -> str:
        """The page.

        Raises:
            BadDocument: something is named that the results do not have.
        """
        self._missing.clear()
        page = _NAMED.sub(self._named, _PART.sub(self._part, self.text))
        return re.sub(r"\n{3,}", "\n\n", page)

    def _part(self, found: re.Match[str]) -> str:
        """What lies between `with` and `end`, or nothing."""
        absent = [name for name in found[1].split(", ") if name not in self.reports]
        if not absent:
            return found[2]
        if heading := _HEADING.search(found[2]):
            makers = " and ".join(f"`{maker}`" for name in absent if (maker := maker_of(name)))
            files = " and ".join(f"`bench/results/{name}.json`" for name in absent)
            self._missing.append(f"* {heading[1]}: {files}" + (f", by {makers}" if makers else ""))
        return ""

    def _named(self, found: re.Match[str]) -> str:
        """What stands between double braces, replaced."""
        word, _, rest = found[1].strip().partition(" ")
        makers: dict[str, Callable[[], str]] = {
            "table": lambda: series_table(rest, self.reports),
            "some": lambda: series_table(rest, self.reports, may_be_none=True),
            "headline": lambda: headline_table(report_of(rest, self.reports)),
            "made": lambda: made(report_of(rest, self.reports)),
            "machine": lambda: machine(report_of(rest, self.reports)),
            "versions": lambda: versions(report_of(rest, self.reports)),
            "picture": lambda: self._picture(rest),
            "when": lambda: _one_of_two(rest, self.reports),
            "missing": lambda: "\n".join(self._missing) or "None.",
            "steps": _steps,
        }
        expression, _, spec = (part.strip() for part in found[1].partition("|"))
        try:
            return makers[word]() if word in makers else written(figure(expression, self.reports), spec)
        except BadDocument as error:
            raise BadDocument(f"{{{{{found[1].splitlines()[0]}}}}}: {error}") from error

    def _picture(self, told: str) -> str:
        file, _, caption = told.partition(": ")
        return f"![{caption}]({file})" if (self.folder / file).exists() else ""


def _one_of_two(condition: str, reports: Mapping[str, Report]) -> str:
    found = _CONDITION.fullmatch(condition)
    if found is None:
        raise BadDocument("a condition looks so: when figure >= 1 ? this | that")
    value = figure(found["figure"], reports)
    if value is None:
        return NOTHING
    return found["then" if _SIGNS[found["sign"]](value, float(found["limit"])) else "otherwise"].strip()


def _steps() -> str:
    rows = [(f"`{step.shown}`", str(step.minutes), "yes" if step.headline else "") for step in STEPS]
    all_of_them, headline = (sum(step.minutes for step in steps) for steps in (STEPS, HEADLINE))
    return markdown(
        ("command", "minutes", "`make bench`"), [*rows, ("together", str(all_of_them), f"{headline} minutes")]
    )
