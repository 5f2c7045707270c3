"""Who cannot write the figures says so before anything is measured."""

from pathlib import Path

import click
from click.testing import CliRunner

from bench.json_option import json_option


@click.command()
@json_option
def measure(json_file: Path | None) -> None:
    print(f"measuring for {json_file}")


def test_a_file_that_cannot_be_written_is_refused_at_once(tmp_path: Path) -> None:
    taken = tmp_path / "taken"
    taken.write_text("a file")
    result = CliRunner().invoke(measure, ["--json", str(taken / "figures.json")])
    assert result.exit_code == 2
    assert "cannot write" in result.output
    assert "measuring" not in result.output


def test_a_file_that_can_be_written_is_neither_made_nor_emptied(tmp_path: Path) -> None:
    new, old = tmp_path / "new" / "figures.json", tmp_path / "old.json"
    old.write_text("kept")
    for path in (new, old):
        assert CliRunner().invoke(measure, ["--json", str(path)]).output == f"measuring for {path}\n"
    assert not new.exists()
    assert old.read_text() == "kept"


def test_nobody_needs_one() -> None:
    assert CliRunner().invoke(measure).output == "measuring for None\n"
