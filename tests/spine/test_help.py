"""What every command says of itself."""

from collections.abc import Iterator

import click
import pytest
from click.testing import CliRunner

from chiasm.cli import main


def commands(group: click.Group, *names: str) -> Iterator[tuple[str, ...]]:
    """All there are, by the words that call them."""
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        yield (*names, name)
        if isinstance(command, click.Group):
            yield from commands(command, *names, name)


@pytest.mark.parametrize("words", list(commands(main)), ids=" ".join)
def test_fits_a_terminal_of_80_columns(words: tuple[str, ...]) -> None:
    said = CliRunner().invoke(main, [*words, "--help"], terminal_width=80).output
    assert said.startswith("Usage: ")
    assert [line for line in said.splitlines() if len(line) > 80] == []
