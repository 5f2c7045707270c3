"""Tables are readable on terminals of any width."""

import pytest
from rich.console import Console

from bench.sheets import Sheet, fitted

COLUMNS = ["tower", *(f"column_{number}" for number in range(14))]
ROWS = [[f"tower_{row}", *(f"{row},{number:03d}.{row}" for number in range(14))] for row in range(7)]
WIDE = Sheet("Wide", COLUMNS, ROWS)


def shown(sheet: Sheet, width: int) -> list[str]:
    console = Console(width=width, highlight=False, force_terminal=False)
    with console.capture() as kept:
        console.print(*fitted(sheet, width))
    return kept.get().splitlines()


@pytest.mark.parametrize("width", [40, 80, 120, 200])
def test_cells_are_whole_however_narrow_the_terminal_is(width: int) -> None:
    wordy = Sheet("Wordy", [f"column {number}" for number in range(len(COLUMNS))], ROWS)
    lines = shown(wordy, width)
    assert max(len(line) for line in lines) <= width
    words = {word for line in lines for word in line.split()}
    assert words >= {cell for row in ROWS for cell in row}


def test_rows_are_rows_where_there_is_room() -> None:
    [line] = [line for line in shown(WIDE, 200) if "tower_3" in line]
    assert all(cell in line for cell in ROWS[3])


def test_where_there_is_none_they_are_columns_as_many_as_fit() -> None:
    lines = shown(WIDE, 60)
    beside = [word for word in next(line for line in lines if "tower_0" in line).split() if word.startswith("tower_")]
    assert 2 <= len(beside) < len(ROWS)
    told = [word for line in lines if "column_8" in line for word in line.split() if "," in word]
    assert told == [row[9] for row in ROWS]


def test_sentences_are_wrapped_and_the_table_not_turned_for_them() -> None:
    sentences = Sheet("Told", ["side", "because"], [["split", "word " * 50], ["mono", "word " * 50]])
    assert any("split" in line and "word" in line for line in shown(sentences, 60))
    assert not any("split" in line and "mono" in line for line in shown(sentences, 60))


def test_a_word_that_is_longer_than_a_line_is_cut() -> None:
    lines = shown(Sheet("Long", ["side", "name"], [["split", "x" * 100], ["mono", "y"]]), 40)
    assert max(len(line) for line in lines) <= 40
    assert sum(line.count("x") for line in lines) == 100
    assert sum("Long" in line for line in lines) == 1
