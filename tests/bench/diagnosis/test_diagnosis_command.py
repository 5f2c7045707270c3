"""`chiasm diagnose` against servers whose steps really take longer for pictures: what it says, and what it leaves."""

import importlib
import json
import tomllib
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner, Result
from stalling_server import StallingServer, running

from bench.diagnosis import command, sweeping
from bench.diagnosis.command import diagnose
from bench.diagnosis.plan import Effort

pytestmark = [pytest.mark.slow, pytest.mark.timeout(150)]  # steps take their time, and more on a busy machine

ROOT = Path(__file__).parents[3]
SIZES = ("--sizes", "448x448,896x896")
SHORT = Effort(30.0, 0.1, (1 / 8, 1 / 2, 1.0), sweeps=3, bursts=(1, 2, 3), rounds=3)


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Servers here have gaps of milliseconds, and need no long pauses."""
    monkeypatch.setattr(command, "QUICK", SHORT)
    monkeypatch.setattr(sweeping, "LEAST_PAUSE_S", 0.03)
    monkeypatch.setattr(sweeping, "ANSWER_S", 0.6)
    monkeypatch.setattr(sweeping, "SETTLED_S", 0.2)
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)


def diagnosed(*arguments: str, answer: str = "") -> Result:
    result = CliRunner().invoke(diagnose, list(arguments), input=answer)
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


def rows_of(file: Path, what: str) -> list[dict[str, Any]]:
    return [row for row in json.loads(file.read_text())["series"] if row["what"] == what]


def test_where_the_encode_is_the_stall_it_says_split_and_asks_one_of_two_engines(tmp_path: Path) -> None:
    server = StallingServer(encode=120, prefill=10, engine_count=2, chunk=512, role_at_once=True)
    with running(server):
        arguments = (*SIZES, "--quick", "--yes", "--itl-slo-ms", "100", "--json", str(tmp_path / "found.json"))
        result = diagnosed(server.url + "/v1", *arguments, "--api-key", "secret")
    assert result.exit_code == 0, result.output
    assert "Verdict: SPLIT" in result.output
    assert "What to try first" in result.output
    assert "…" not in result.output  # nothing is cut off at 80 columns
    assert "2 engines, of which engine 0 is asked" in result.output
    assert server.engines[1].generated == 0
    report = json.loads((tmp_path / "found.json").read_text())
    assert report["name"] == "diagnose"
    assert report["command"] == f"chiasm diagnose {server.url}/v1 {' '.join(SIZES)} --itl-slo-ms 100.0 --quick --yes"
    assert report["headline"]["encode_share"] > 0.6
    assert report["headline"]["longest_gap_after_split_ms"] < 100 < report["headline"]["longest_gap_ms"]
    assert rows_of(tmp_path / "found.json", "verdict")[0]["advice"] == "split"
    # The ladder's rungs have 128, 512 and 1,024 tokens, a picture and a text of each a sweep, and nothing; then rounds.
    points = rows_of(tmp_path / "found.json", "point")
    assert [sum(row["kind"] == kind for row in points) for kind in ("picture", "text", "nothing")] == [9, 9, 3]
    assert {row["at_once"] for row in points if row["kind"] == "texts at once"} == {1, 2, 3}
    # All are looked at for as long as a picture takes, of which the encode alone is 0.12 s.
    looks = [row["end_s"] - row["begin_s"] for row in points if row["kind"] == "nothing" or row["tokens"] > 900]
    assert len(looks) == 9
    assert min(looks) > 0.12
    assert {row["tokens"] for row in rows_of(tmp_path / "found.json", "kv")} == {256, 1024}
    for row in rows_of(tmp_path / "found.json", "kv"):
        assert row["expected_tokens"] <= row["cached_tokens"] <= row["expected_tokens"] + 32
    assert server.keys == {"Bearer secret"}
    assert "secret" not in (tmp_path / "found.json").read_text() + result.output


def test_where_the_prefill_is_the_stall_it_says_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a model that makes as many tokens of any size, on a server that takes one picture a request."""
    monkeypatch.setattr(command, "QUICK", replace(SHORT, rounds=0))
    server = StallingServer(encode=4, prefill=200, fixed_tokens=600, most_images=1, piece=2, metrics=False)
    server.owner = "chiasm"
    with running(server):
        arguments = ("--quick", "--yes", "--itl-slo-ms", "110", "--json", str(tmp_path / "found.json"))
        result = diagnosed(server.url, "--sizes", "336x336", *arguments)
    said = " ".join(result.output.split())
    assert result.exit_code == 0, result.output
    assert "Verdict: STAY, and make the prefill chunk smaller first" in said
    assert "has no metrics of vLLM" in said
    assert "It is Chiasm. If it has encoders, images are split off already" in said
    assert "cannot see whether requests wait" in said
    assert "name the model's folder: --config" in said
    assert "A piece carries 2 tokens" in said
    assert "no time left for three rounds" in said
    assert server.most_at_once <= SHORT.most_at_once
    points = rows_of(tmp_path / "found.json", "point")
    assert {(row["pictures"], row["tokens"]) for row in points if row["kind"] == "picture"} == {(1, 600)}


def test_engines_behind_one_address_are_not_averaged(tmp_path: Path) -> None:
    server = StallingServer(encode=120, prefill=10, engine_count=2, metrics=False)
    with running(server):
        result = diagnosed(server.url, *SIZES, "--quick", "--yes", "--json", str(tmp_path / "found.json"))
    assert result.exit_code == 1
    assert "several engines" in " ".join(result.output.split())
    assert "Verdict" not in result.output
    assert rows_of(tmp_path / "found.json", "server")[0]["stopped"].startswith("Stopped, for some streams")
    assert rows_of(tmp_path / "found.json", "point")


def test_nothing_is_sent_before_a_yes_and_what_would_be_is_said() -> None:
    server = StallingServer(encode=60, prefill=10)
    with running(server):
        result = diagnosed(server.url, *SIZES, "--quick", answer="n\n")
        assert (result.exit_code, server.asked) == (1, 0)
    said = " ".join(result.output.split())
    assert "at most 65 requests within 0.5 minutes, 35 of them with pictures" in said
    assert "never more than 7 requests of ours" in said
    assert "34 requests more" in said
    assert "12,000 tokens" in said  # four streams, thirty seconds, 10 ms a token
    assert "take the place of your clients'" in said


def test_the_model_that_is_named_is_asked() -> None:
    server = StallingServer(encode=10, prefill=1, models=("text-only", "sees"), fails_from=2)
    with running(server):
        result = diagnosed(server.url, *SIZES, "--quick", "--yes", "--model", "sees")
        assert "Not asked (name it, --model): text-only" in result.output
        assert server.models_asked == {"sees"}
        result = diagnosed(server.url, "--model", "other")
        assert "lists no model other. Name one of these: text-only, sees." in result.output


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("http://127.0.0.1:9",), "no answer from http://127.0.0.1:9"),
        (("localhost:8000",), "Write it with http://"),
        (("http://127.0.0.1:9", "--sizes", "big"), "Write them like 448x448,1344x896"),
        (("http://127.0.0.1:9", "--quick", "--minutes", "3"), "--minutes does not go with it"),
        (("http://127.0.0.1:9", "--sizes", "64x64", "--workload", __file__), "Give one of them"),
        (("http://127.0.0.1:9", "--workload", __file__), "is not JSON"),
        (("http://127.0.0.1:9", "--json", f"{__file__}/found.json"), "cannot write"),
    ],
)
def test_bad_input_is_refused_in_words(arguments: tuple[str, ...], said: str) -> None:
    result = diagnosed(*arguments)
    assert result.exit_code in (1, 2)
    assert said in " ".join(result.output.split())


def test_a_configuration_that_cannot_be_read_is_said_before_anything_is_sent(tmp_path: Path) -> None:
    server = StallingServer(encode=10, prefill=1)
    with running(server):
        result = diagnosed(server.url, "--yes", "--config", str(tmp_path))
    assert (result.exit_code, server.asked) == (1, 0)
    assert "Name its folder" in result.output


def test_it_is_a_command_of_chiasm() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    module, _, name = project["entry-points"]["chiasm.commands"]["diagnose"].partition(":")
    found = getattr(importlib.import_module(module), name)
    assert isinstance(found, click.Command)
    assert found.name == "diagnose"
