"""`chiasm diagnose` against servers whose steps really take longer for pictures: verdicts, and how careful it is."""

import importlib
import json
import signal
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner, Result
from stalling_server import PATIENCE_S, StallingServer, running, wait_until

from bench.diagnosis import careful, command, sweeping
from bench.diagnosis.command import diagnose
from bench.diagnosis.plan import Effort

pytestmark = pytest.mark.timeout(150)  # steps take their time, and more on a busy machine

ROOT = Path(__file__).parents[3]
SIZES = ("--sizes", "448x448,896x896")
SHORT = Effort(40.0, (1 / 8, 1 / 2, 1.0), sweeps=4, bursts=(1, 2, 4), rounds=3)


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Servers here have gaps of milliseconds, and need no long pauses."""
    monkeypatch.setattr(command, "QUICK", SHORT)
    monkeypatch.setattr(sweeping, "LEAST_PAUSE_S", 0.05)
    monkeypatch.setattr(sweeping, "ANSWER_S", 1.0)
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)


def diagnosed(*arguments: str, answer: str = "") -> Result:
    result = CliRunner().invoke(diagnose, list(arguments), input=answer)
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


def rows_of(file: Path, what: str) -> list[dict[str, Any]]:
    return [row for row in json.loads(file.read_text())["series"] if row["what"] == what]


def test_where_the_encode_is_the_stall_it_says_split(tmp_path: Path) -> None:
    server = StallingServer(encode=120, prefill=10)
    with running(server):
        arguments = (*SIZES, "--quick", "--yes", "--itl-slo-ms", "70", "--json", str(tmp_path / "found.json"))
        result = diagnosed(server.url + "/v1", *arguments, "--key", "secret")
    assert result.exit_code == 0, result.output
    assert "Verdict: SPLIT" in result.output
    assert "What to try first" in result.output
    assert max(map(len, result.output.splitlines())) <= 80
    report = json.loads((tmp_path / "found.json").read_text())
    assert report["name"] == "diagnose"
    assert report["headline"]["encode_share"] > 0.6
    assert report["headline"]["longest_gap_after_split_ms"] < 70 < report["headline"]["longest_gap_ms"]
    assert rows_of(tmp_path / "found.json", "verdict")[0]["advice"] == "split"
    told = [row for row in rows_of(tmp_path / "found.json", "point") if row["vllm_prefill_ms"] is not None]
    assert told
    assert all(row["vllm_prefill_ms"] > 0.12 * row["tokens"] for row in told if row["kind"] == "picture")
    # The rungs of the ladder have 128, 512 and 1,024 tokens; each sweep has a picture and a text of each.
    assert len(rows_of(tmp_path / "found.json", "point")) == 6 * report["headline"]["sweeps"]
    assert {row["tokens"] for row in rows_of(tmp_path / "found.json", "kv")} == {256, 1024}
    for row in rows_of(tmp_path / "found.json", "kv"):
        assert row["expected_tokens"] <= row["cached_tokens"] <= row["expected_tokens"] + 32
    assert server.keys == {"Bearer secret"}
    assert "secret" not in (tmp_path / "found.json").read_text() + result.output


def test_where_the_prefill_is_the_stall_it_says_stay() -> None:
    server = StallingServer(encode=4, prefill=120, metrics=False)
    with running(server):
        result = diagnosed(server.url, *SIZES, "--quick", "--yes", "--itl-slo-ms", "70")
    assert result.exit_code == 0, result.output
    assert "Verdict: STAY, and make the prefill chunk smaller first" in result.output
    assert "no metrics of vLLM" in result.output
    assert "name the model's folder: --model" in result.output.replace("\n", " ")
    assert server.most_at_once <= SHORT.most_at_once


def test_a_model_with_as_many_tokens_of_every_size_is_loaded_by_the_number_of_pictures(tmp_path: Path) -> None:
    server = StallingServer(encode=60, prefill=10, fixed_tokens=300)
    with running(server):
        arguments = ("--quick", "--yes", "--itl-slo-ms", "1000", "--json", str(tmp_path / "found.json"))
        result = diagnosed(server.url, "--sizes", "336x336", *arguments)
    assert "Verdict: STAY" in result.output
    points = rows_of(tmp_path / "found.json", "point")
    assert {(row["pictures"], row["tokens"]) for row in points if row["kind"] == "picture"} == {
        (1, 300),
        (2, 600),
        (3, 900),
    }


def test_nothing_is_sent_before_a_yes_and_what_would_be_is_said() -> None:
    server = StallingServer(encode=60, prefill=10)
    with running(server):
        result = diagnosed(server.url, *SIZES, "--quick", answer="n\n")
        assert (result.exit_code, server.asked) == (1, 0)
    said = " ".join(result.output.split())
    assert "at most 56 requests within 0.7 minutes, 41 of them with pictures" in said
    assert "never more than 8 requests of ours" in said


@pytest.mark.parametrize("fails_from", [1, 4, 20])  # at the first question, at a picture, beside streams
def test_it_stops_at_the_first_error(fails_from: int) -> None:
    server = StallingServer(encode=10, prefill=1, fails_from=fails_from)
    with running(server):
        result = diagnosed(server.url, *SIZES, "--quick", "--yes")
    assert result.exit_code == 1
    assert "Stopped at the first error" in result.output
    assert "the card is on fire" in result.output
    assert server.refused <= 2  # a stream may have begun at the same moment
    assert not server.running


def test_it_stops_where_requests_pile_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(careful, "PATIENCE_S", 0.2)
    server = StallingServer(encode=10, prefill=1, waiting=3)
    with running(server):
        result = diagnosed(server.url, *SIZES, "--quick", "--yes")
    assert result.exit_code == 1
    assert "3 requests wait" in result.output
    assert server.asked < 30  # of some eighty


def test_a_server_that_tells_no_usage_is_left_alone() -> None:
    server = StallingServer(encode=10, prefill=1, usage=False)
    with running(server):
        result = diagnosed(server.url, *SIZES, "--quick", "--yes")
    assert (result.exit_code, server.asked) == (1, 1)
    assert "stream_options.include_usage" in result.output


def test_requests_begin_no_faster_than_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "QUICK", Effort(3.0, (1 / 8, 1 / 2, 1.0), 4, (1, 2, 4), 3))
    server = StallingServer(encode=1, prefill=1)
    with running(server):
        result = diagnosed(server.url, *SIZES, "--quick", "--yes", "--rate", "2")
    assert "On average no more than 2 requests a second" in result.output
    assert server.asked <= 7  # in three seconds
    assert result.exit_code == 1
    assert "allow a higher --rate" in " ".join(result.output.split())


def test_ctrl_c_ends_it_and_leaves_nothing_at_the_server() -> None:
    server = StallingServer(encode=10, prefill=1)
    program = "from bench.diagnosis.command import diagnose; diagnose()"
    with running(server):
        command_line = [sys.executable, "-c", program, server.url, "--yes"]
        process = subprocess.Popen(command_line, stdout=subprocess.PIPE, text=True)
        wait_until(lambda: len(server.running) >= 4)
        process.send_signal(signal.SIGINT)
        output, _ = process.communicate(timeout=PATIENCE_S)
        wait_until(lambda: not server.running)
    assert process.returncode == 130
    assert "stopped: nothing more is sent" in output
    assert "Traceback" not in output
    assert server.broken_off >= 4


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("http://127.0.0.1:9",), "no answer from http://127.0.0.1:9"),
        (("localhost:8000",), "Write it with http://"),
        (("http://127.0.0.1:9", "--sizes", "big"), "Write them like 448x448,1344x896"),
        (("http://127.0.0.1:9", "--quick", "--minutes", "3"), "--minutes does not go with it"),
        (("http://127.0.0.1:9", "--sizes", "64x64", "--workload", __file__), "Give one of them"),
        (("http://127.0.0.1:9", "--workload", __file__), "is not JSON"),
    ],
)
def test_bad_input_is_refused_in_words(arguments: tuple[str, ...], said: str) -> None:
    result = diagnosed(*arguments)
    assert result.exit_code in (1, 2)
    assert said in " ".join(result.output.split())


def test_a_model_that_cannot_be_read_is_said_before_anything_is_sent(tmp_path: Path) -> None:
    server = StallingServer(encode=10, prefill=1)
    with running(server):
        result = diagnosed(server.url, "--yes", "--model", str(tmp_path))
    assert (result.exit_code, server.asked) == (1, 0)
    assert "Name its folder" in result.output


def test_it_is_a_command_of_chiasm() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    module, _, name = project["entry-points"]["chiasm.commands"]["diagnose"].partition(":")
    found = getattr(importlib.import_module(module), name)
    assert isinstance(found, click.Command)
    assert found.name == "diagnose"
