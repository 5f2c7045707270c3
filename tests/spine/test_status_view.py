"""The tables of `chiasm status`."""

import io
from typing import Any

import pytest
from click.testing import CliRunner
from rich.console import Console

from chiasm.cli import main
from chiasm.display import PIPED_WIDTH
from chiasm.status_view import status_tables

WORKER = {"running": 128, "waiting": 12, "slots": 128, "kv_tokens": 1_234_567}
WORKER |= {"tokens_per_s": 12345.6, "measured": True, "held": 65_536}


def worker(name: str, role: str, node: str) -> dict[str, Any]:
    return {**WORKER, "worker": name, "role": role, "node": node}


WORKERS = [
    worker("encoder-0", "encoder", "192.0.2.1"),
    worker("encoder-0-text", "text", "192.0.2.1"),
    worker("decoder-10", "decoder", "192.168.100.101"),
]
THIEF = {"worker": "encoder-0-text", "held": False, "encoder_busy_share": 0.25, "patience_s": 1.0, "at_most": 3}
STATUS = {
    "ready": True,
    "workers": WORKERS,
    "thieves": [THIEF],
    "encoding": 1,
    "withheld": 22,
    "decoding": 333,
    "counters": {"images_submitted": 4444, "failed": 0},
}


def shown(width: int, **changes: Any) -> str:
    console = Console(file=io.StringIO(), width=width, highlight=False)
    for table in status_tables(STATUS | changes):
        console.print(table)
    text: str = console.file.getvalue()  # type: ignore[attr-defined]
    return text


@pytest.mark.parametrize("width", [80, PIPED_WIDTH])
def test_names_and_numbers_are_whole_in_eighty_columns(width: int) -> None:
    text = shown(width)
    assert "…" not in text
    words = text.split()
    for expected in ("encoder-0", "encoder-0-text", "decoder-10", "192.0.2.1", "1234567", "12346", "65536"):
        assert expected in words
    for heading in ("running", "waiting", "slots", "tokens/s", "worker", "node"):
        assert heading in words


def test_a_rate_that_nobody_has_measured_is_no_number() -> None:
    assert "12346" not in shown(80, workers=[WORKERS[0] | {"measured": False}])
    assert "assumed" in shown(80, workers=[WORKERS[0] | {"measured": False}])
    assert "assumed" not in shown(80)


def test_the_help_of_status_explains_every_column() -> None:
    said = CliRunner().invoke(main, ["status", "--help"], terminal_width=110).output
    for table in status_tables(STATUS)[:2]:
        for column in table.columns:
            assert column.header in ("worker", "node") or f"  {column.header}  " in said


def test_what_is_zero_is_not_counted() -> None:
    text = shown(80)
    assert "images submitted" in text
    assert "failed" not in text
    assert "requests withheld now" in text


def test_without_thieves_nothing_is_said_of_stealing() -> None:
    assert "stealing" in shown(80)
    assert "stealing" not in shown(80, thieves=[])
