"""Tables of text, on a terminal of any width."""

from collections.abc import Sequence
from dataclasses import dataclass

from rich.cells import cell_len
from rich.table import Table

BORDER, PADDED = 1, 3  # characters of a line: one border, and of each column another one and a space on either side


@dataclass(frozen=True)
class Sheet:
    """A table; cells are text."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]


def fitted(sheet: Sheet, width: int) -> list[Table]:
    """The sheet as a table of at most so many characters, wrapped between words.

    Where its words do not fit beside each other, its rows are columns, in as few tables as that takes.
    """
    if _least(sheet) <= width:
        return [_as_table(sheet, width)]
    for beside in range(len(sheet.rows), 0, -1):
        starts = range(0, len(sheet.rows), beside)
        parts = [_turned(sheet, sheet.rows[start : start + beside]) for start in starts]
        if all(_least(part) <= width for part in parts):
            return [_as_table(part, width) for part in parts]
    return [_as_table(sheet, width)]  # some word is longer than any line, and is cut


def _turned(sheet: Sheet, rows: Sequence[Sequence[str]]) -> Sheet:
    """Some of its rows as columns, headed by their first cells."""
    first, *others = zip(sheet.columns, *rows, strict=True)
    return Sheet(sheet.title, first, others)


def _least(sheet: Sheet) -> int:
    """Characters of a line that holds the longest word of each column."""
    return sum(map(_longest_word, _columns(sheet))) + PADDED * len(sheet.columns) + BORDER


def _columns(sheet: Sheet) -> list[tuple[str, ...]]:
    """Headings and cells."""
    return list(zip(sheet.columns, *sheet.rows, strict=True))


def _longest_word(column: Sequence[str]) -> int:
    return max((cell_len(word) for cell in column for word in cell.split()), default=0)


def _as_table(sheet: Sheet, width: int) -> Table:
    table = Table(title=sheet.title, title_justify="left")
    for heading, *cells in _columns(sheet):
        text = all(not cell[:1].isdigit() for cell in cells)
        table.add_column(heading, justify="left" if text else "right", overflow="fold")
    for row in sheet.rows:
        table.add_row(*row)
    spare = width - _least(sheet)
    if spare >= 0:  # else words are cut, which rich does evenly
        _widen(table, _columns(sheet), spare)
    return table


def _widen(table: Table, columns: Sequence[Sequence[str]], spare: int) -> None:
    """Each column gets its longest word, and what is spare is shared by those whose cells are longer."""
    least = [_longest_word(column) for column in columns]
    wanted = [max(map(cell_len, column)) - word for column, word in zip(columns, least, strict=True)]
    share = min(1.0, spare / max(1, sum(wanted)))
    for column, word, more in zip(table.columns, least, wanted, strict=True):
        column.width = word + int(share * more)
