"""`chiasm config`: the fields of the configuration for people, explained, checked, and as a file to start from."""

import difflib
import json
import sys
from pathlib import Path

import click
from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from chiasm.config_fields import Described, DescribedSection, describe, sections
from chiasm.config_file import ConfigError, load_config
from chiasm.kubernetes.cluster_file import CannotRender
from chiasm.kubernetes.reachable import led_nowhere
from chiasm.kubernetes.render import render

_HEAD = """\
# Every field of Chiasm's configuration, with its default. Take the # away where you set another value;
# `chiasm config --check cluster.yaml` then says whether the file fits.
"""


class NoSuchField(ValueError):
    """Nothing in the configuration has that name; the message has the nearest."""


@click.command("config")
@click.argument("field", required=False)
@click.option("--explain", "explained", is_flag=True, help="Print every field, or FIELD alone: a name or a section.")
@click.option("--check", "checked", type=click.Path(path_type=Path), metavar="FILE", help="Say whether FILE fits.")
@click.option("--template", "written", is_flag=True, help="Print a file to start from: every field, commented out.")
def configuration(field: str | None, explained: bool, checked: Path | None, written: bool) -> None:
    """Explain the configuration, check a file of it, or write one.

    \b
      chiasm config --explain
      chiasm config --explain gateway.port
      chiasm config --template > cluster.yaml
      chiasm config --check cluster.yaml
    """
    if [explained, checked is not None, written].count(True) != 1:
        raise click.UsageError("Say one of --explain, --check FILE and --template.")
    if field is not None and not explained:
        raise click.UsageError(f"{field} is for --explain alone.")
    console = Console(highlight=False)
    try:
        if explained:
            explain(console, field)
        elif checked is not None:
            config = load_config(checked)
            if "kubernetes" in config.model_fields_set:
                render(config, config.kubernetes.name)  # refuses what no manifests could be made of
                for warning in led_nowhere(config):
                    click.echo(f"warning: {warning}", err=True)
            if config.scheduler.stealing == "off" and config.encoders.text_engine_args:
                console.print("encoders.text_engine_args is for nothing while scheduler.stealing is off.")
            console.print(f"{checked} fits. Whether its model can be split, `chiasm check MODEL` says.", markup=False)
        else:
            click.echo(template(), nl=False)
    except (ConfigError, CannotRender, NoSuchField) as error:
        sys.exit(str(error))


def explain(console: Console, name: str | None) -> None:
    """Print every field, or those of one section, or one: tables on a terminal, a line for each field elsewhere.

    Raises:
        NoSuchField: `name` is none.
    """
    for section in _chosen(name):
        if console.is_terminal:
            console.print(_table(section))
            continue
        for field in section.fields:
            print(f"{field.name} ({field.takes}, default {_default(field)}): {field.description}")


def template() -> str:
    """A whole `cluster.yaml` in which every field stands, commented out, with its default."""
    lines = [_HEAD]
    for section in sections():
        indent = ""
        if section.name:
            lines += [f"# {section.description}", f"{section.name}:"]
            indent = "  "
        for field in section.fields:
            lines.append(f"{indent}# {field.description} ({field.takes})")
            lines.append(f"{indent}#{field.name.rpartition('.')[2]}: {json.dumps(field.default)}")
        lines.append("")
    return "\n".join(lines)


def _chosen(name: str | None) -> list[DescribedSection]:
    every = sections()
    if name is None:
        return every
    if named := [section for section in every if section.name == name]:
        return named
    try:
        return [DescribedSection(name, "", (describe(name),))]
    except KeyError:
        names = [section.name for section in every if section.name]
        names += [field.name for section in every for field in section.fields]
        near = difflib.get_close_matches(name, names, 1)
        if not near:
            like = difflib.get_close_matches(name, [each.rpartition(".")[2] for each in names], 1)
            near = [each for each in names if each.rpartition(".")[2] in like]
        hint = f"Did you mean {' or '.join(near)}?" if near else "`chiasm config --explain` lists them all."
        raise NoSuchField(f"there is no field {name}. {hint}") from None


def _table(section: DescribedSection) -> Table:
    title = f"[bold]{section.name or 'cluster.yaml'}[/]: {section.description}" if section.description else None
    table = Table(title=title, title_justify="left", title_style="", box=box.SIMPLE, show_header=False)
    table.add_column(no_wrap=True)
    table.add_column()
    for field in section.fields:
        facts = escape(f"{field.takes}; default {_default(field)}")
        name = field.name if title is None else field.name.rpartition(".")[2]
        table.add_row(f"[bold]{name}[/]", f"{escape(field.description)}\n[dim]{facts}[/]")
    return table


def _default(field: Described) -> str:
    text = json.dumps(field.default)
    if not field.name.endswith("_bytes"):
        return text
    for unit, power in (("GiB", 30), ("MiB", 20)):
        if field.default % (1 << power) == 0:
            return f"{text} = {field.default >> power} {unit}"
    return text
