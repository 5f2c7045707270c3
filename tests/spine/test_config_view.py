"""`chiasm config`: every field explained from the one place that describes it, a template, and a check."""

import io
import re
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from rich.console import Console

from chiasm.cli import about, main
from chiasm.config import ClusterConfig, GatewayConfig
from chiasm.config_fields import describe, sections
from chiasm.config_file import load_config
from chiasm.config_view import NoSuchField, explain, template

FIELDS = [field for section in sections() for field in section.fields]


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["config", *arguments])


def leaves(values: dict[str, object], models: dict[str, object], prefix: str = "") -> set[str]:
    """Dotted names of the fields of a dumped configuration; what is a mapping by itself is one field."""
    names = set()
    for name, value in values.items():
        if prefix == "" and isinstance(value, dict) and name in models:
            names |= leaves(value, {}, f"{name}.")
        else:
            names.add(prefix + name)
    return names


def test_every_field_is_described_and_no_other() -> None:
    dumped = ClusterConfig().model_dump()
    named = dict.fromkeys(section.name for section in sections() if section.name)
    assert {field.name for field in FIELDS} == leaves(dumped, named)
    assert all(field.description and field.takes for field in FIELDS)


def test_a_piped_explanation_has_one_line_for_each_field() -> None:
    lines = run("--explain").output.splitlines()
    assert len(lines) == len(FIELDS)
    assert "gateway.port (a whole number from 0 to 65535, default 8000): port to listen on; 0 takes a free one" in lines


def test_a_terminal_gets_every_description_too() -> None:
    console = Console(file=io.StringIO(), force_terminal=True, width=600)
    explain(console, None)
    shown = console.file.getvalue()  # type: ignore[attr-defined]
    assert all(field.description in shown for field in FIELDS)


@pytest.mark.parametrize(("name", "count"), [("gateway.port", 1), ("wire", 8), ("security", 1)])
def test_one_field_or_section_can_be_explained_alone(name: str, count: int) -> None:
    result = run("--explain", name)
    assert len(result.output.splitlines()) == count
    assert result.exit_code == 0


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("gateway.prot", "gateway.port"),
        ("window_chunks", "wire.window_chunks"),
        ("itl_slo", "scheduler.itl_slo_ms"),
        ("zzz", "lists"),
    ],
)
def test_a_field_that_is_none_gets_the_nearest_name(name: str, nearest: str) -> None:
    with pytest.raises(NoSuchField, match=nearest):
        explain(Console(), name)
    assert run("--explain", name).exit_code == 1


def test_the_template_fits_and_its_values_are_the_defaults(tmp_path: Path) -> None:
    path = tmp_path / "cluster.yaml"
    path.write_text(run("--template").output)
    assert load_config(path) == ClusterConfig()
    uncommented = re.sub(r"^( *)#([a-z_]+: )", r"\1\2", template(), flags=re.MULTILINE)
    assert len(re.findall(r"^ *[a-z_]+: ", uncommented, re.MULTILINE)) == len(FIELDS)
    path.write_text(uncommented)
    assert load_config(path) == ClusterConfig()


def test_check_tells_by_its_exit_code(tmp_path: Path) -> None:
    path = tmp_path / "cluster.yaml"
    path.write_text("gateway: {port: 9000}")
    assert run("--check", str(path)).exit_code == 0
    path.write_text("gateway: {port: 9000, hots: a}\nmodle: b")
    result = run("--check", str(path))
    assert result.exit_code == 1
    assert "gateway.hots" in result.output
    assert "modle" in result.output


def test_check_says_what_is_not_used(tmp_path: Path) -> None:
    path = tmp_path / "cluster.yaml"
    said = "encoders.text_engine_args is for nothing"
    path.write_text("encoders: {text_engine_args: [--max-num-seqs=2]}")
    assert said in run("--check", str(path)).output
    path.write_text("encoders: {text_engine_args: [--max-num-seqs=2]}\nscheduler: {stealing: yield}")
    assert said not in run("--check", str(path)).output


@pytest.mark.parametrize("arguments", [(), ("--explain", "--template"), ("gateway", "--template")])
def test_one_thing_is_asked_at_a_time(arguments: tuple[str, ...]) -> None:
    assert run(*arguments).exit_code == 2


def test_the_options_of_serve_quote_the_configuration() -> None:
    assert about("gateway.port") == "Port to listen on; 0 takes a free one."
    shown = " ".join(CliRunner().invoke(main, ["serve", "--help"]).output.split())
    assert about("gateway.host") in shown


def test_bounds_are_in_words() -> None:
    assert describe("wire.chunk_bytes").takes == "a whole number from 4096 to 67108864"
    assert describe("encoders.gpus").takes == "a number, 0 or more"
    assert describe("wire.lease_s").takes == "a number above 0"
    assert describe("encoders.cpus").takes == "a list of texts, or null"
    assert describe("gateway.port").default == GatewayConfig().port
