"""One page that holds a whole run: plots, tables, what was measured, and on what. It needs no other file. Pure."""

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from bench.itl.tables import Sheet

STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 78rem; padding: 0 1rem; color: #222; }
table { border-collapse: collapse; margin: 0.5rem 0 2rem; font-variant-numeric: tabular-nums; font-size: 0.85rem; }
th, td { border-bottom: 1px solid #ddd; padding: 0.2rem 0.6rem; text-align: right; vertical-align: top; }
th:first-child, td:first-child, td.text { text-align: left; }
div.wide { overflow-x: auto; }
svg { max-width: 100%; height: auto; }
code { background: #f4f4f4; padding: 0.1rem 0.3rem; }
"""


def page(
    title: str,
    command: str,
    commit: str,
    told: Sequence[str],
    svg: str,
    sheets: Sequence[Sheet],
    about: Mapping[str, Any],
) -> str:
    """The HTML. `told` are paragraphs of what was measured and how, `about` the machine and the versions."""
    return "\n".join(
        [
            "<!doctype html>",
            '<html lang="en"><head><meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<title>{escape(title)}</title><style>{STYLE}</style></head><body>",
            f"<h1>{escape(title)}</h1>",
            f"<p><code>{escape(command)}</code>, commit <code>{escape(commit)}</code></p>",
            _table(sheets[0]),
            svg,
            "<h2>What was measured</h2>",
            *(f"<p>{escape(paragraph)}</p>" for paragraph in told),
            "<h2>Figures</h2>",
            *(_table(sheet) for sheet in sheets[1:]),
            "<h2>On what</h2>",
            _table(Sheet("Machine and versions", ["", ""], [[name, str(value)] for name, value in about.items()])),
            "</body></html>",
        ]
    )


def _table(sheet: Sheet) -> str:
    head = "".join(f"<th>{escape(column)}</th>" for column in sheet.columns)
    body = "\n".join(f"<tr>{''.join(map(_cell, row))}</tr>" for row in sheet.rows)
    return (
        f'<h3>{escape(sheet.title)}</h3><div class="wide"><table><thead><tr>{head}</tr></thead>'
        f"<tbody>\n{body}\n</tbody></table></div>"
    )


def _cell(text: str) -> str:
    kind = "" if text[:1].isdigit() or text in ("", "–") else ' class="text"'
    return f"<td{kind}>{escape(text)}</td>"
