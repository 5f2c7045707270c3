"""What the docs tell people to write is what Chiasm takes."""

import re
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from chiasm.cli import main
from chiasm.config_fields import sections
from chiasm.config_file import load_config
from chiasm.families import FAMILIES

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
EXAMPLES = [
    pytest.param(text, id=f"{page.stem}-{number}")
    for page in PAGES
    for number, text in enumerate(re.findall(r"^```yaml\n(.*?)^```", page.read_text(), re.DOTALL | re.MULTILINE))
]
FIELDS = {field.name for section in sections() for field in section.fields}

_FIELD = re.compile(rf"^({'|'.join(section.name for section in sections() if section.name)})\.\w+")
_BLOCK = re.compile(r"^```\w*\n(.*?)^```", re.DOTALL | re.MULTILINE)
_CHIASM = re.compile(r"(?:\S*/)?chiasm ([a-z].*)")


def test_there_are_examples() -> None:
    assert EXAMPLES


@pytest.mark.parametrize("text", EXAMPLES)
def test_a_configuration_in_the_docs_fits(tmp_path: Path, text: str) -> None:
    (tmp_path / "cluster.yaml").write_text(text)
    load_config(tmp_path / "cluster.yaml")


def anchors(page: Path) -> set[str]:
    """What a link can name of a page: its headings, spelt as GitHub spells them."""
    headings = re.findall(r"^#+ (.*)", _BLOCK.sub("", page.read_text()), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_links_lead_somewhere(page: Path) -> None:
    for target, anchor in re.findall(r"\]\(([^)#]*)#?([^)]*)\)", page.read_text()):
        if not target.startswith(("http://", "https://")):
            found = page.parent / target if target else page
            assert found.exists(), target
            assert not anchor or anchor in anchors(found), f"{target}#{anchor}"


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_is_in_the_docs(family: str) -> None:
    assert family.partition(" (")[0] in (ROOT / "docs" / "models.md").read_text()


def quoted(page: Path) -> list[str]:
    """What stands between backticks in a page's prose and tables, in one line each."""
    return [" ".join(code.split()) for code in re.findall(r"`([^`]+)`", _BLOCK.sub("", page.read_text()))]


def commands(page: Path) -> Iterator[list[str]]:
    """The arguments of each `chiasm ...` that a page has, in its prose or in a block of commands."""
    blocks = "\n".join(_BLOCK.findall(page.read_text())).replace("\\\n", " ")
    for line in (*blocks.splitlines(), *quoted(page)):
        for command in re.split(r"\\?\||&&|;", line.partition(" #")[0]):
            if found := _CHIASM.fullmatch(command.strip()):
                yield found[1].split()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_fields_that_are_named_are_fields(page: Path) -> None:
    named = {found[0] for code in quoted(page) if (found := _FIELD.match(code))}
    assert named <= FIELDS


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_commands_and_their_options_are_there(page: Path) -> None:
    for arguments in commands(page):
        command: click.Command = main
        while isinstance(command, click.Group):
            assert arguments, f"{command.name} says nothing alone"
            assert arguments[0] in command.commands, arguments
            command = command.commands[arguments.pop(0)]
        options = {option for one in command.params for option in (*one.opts, *one.secondary_opts)}
        given = {argument.partition("=")[0] for argument in arguments if argument.startswith("-")}
        assert given <= options, f"chiasm {command.name}"


def test_commands_are_found() -> None:
    found = [" ".join(arguments) for arguments in commands(ROOT / "README.md")]
    assert {"serve --config cluster.yaml", "config --template > cluster.yaml"} <= set(found)
