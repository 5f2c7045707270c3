"""How careful `chiasm diagnose` is with somebody's server: when it stops, and how fast it asks."""

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner
from stalling_server import PATIENCE_S, StallingServer, running, wait_until

from bench.diagnosis import asking, command, sweeping
from bench.diagnosis.command import diagnose
from bench.diagnosis.plan import Effort

GAP_MS = 12.0  # so long that a busy machine does not let several tokens seem to come at once
pytestmark = [pytest.mark.slow, pytest.mark.timeout(100)]

SHORT = Effort(20.0, 0.1, (1 / 8, 1 / 2, 1.0), sweeps=20, bursts=(1, 2, 3), rounds=3)


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "QUICK", SHORT)
    monkeypatch.setattr(sweeping, "LEAST_PAUSE_S", 0.03)
    monkeypatch.setattr(sweeping, "ANSWER_S", 0.5)
    monkeypatch.setattr(sweeping, "SETTLED_S", 0.1)
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)


def diagnosed(server: StallingServer, *arguments: str) -> str:
    """What it says, on one line, when it gives up."""
    with running(server):
        result = CliRunner().invoke(
            diagnose, [server.url, "--sizes", "224x224,448x448", "--quick", "--yes", *arguments]
        )
        wait_until(lambda: not server.running)  # it hears of the end a moment later
    assert isinstance(result.exception, SystemExit), result.output
    assert result.exit_code == 1
    return " ".join(result.output.split())


@pytest.mark.parametrize("fails_from", [1, 4, 30])  # at the first question, at a picture, beside streams
def test_it_stops_at_the_first_error_and_keeps_what_it_has(fails_from: int, tmp_path: Path) -> None:
    server = StallingServer(encode=10, prefill=1, fails_from=fails_from)
    said = diagnosed(server, "--json", str(tmp_path / "found.json"))
    assert "Stopped at the first error" in said
    assert "the card is on fire" in said
    assert server.refused <= 2  # a stream may have begun at the same moment
    series = json.loads((tmp_path / "found.json").read_text())["series"]
    assert "the card is on fire" in series[0]["stopped"]
    assert any(row["what"] == "point" for row in series) == (fails_from == 30)


@pytest.mark.parametrize(
    ("server", "said"),
    [
        (StallingServer(encode=10, prefill=1, gap_ms=GAP_MS, waiting=3), "3 requests wait"),
        (StallingServer(encode=10, prefill=1, gap_ms=GAP_MS, taken=0.95), "95% of the KV cache is taken"),
        (StallingServer(encode=10, prefill=1, gap_ms=GAP_MS, preempts_from=20), "requests are preempted"),
    ],
)
def test_it_stops_where_the_server_has_as_much_as_it_can_take(
    server: StallingServer, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(asking, "WAITING_S", 0.2)
    assert said in diagnosed(server)
    assert server.asked < 40  # of some two hundred


def test_without_metrics_it_stops_where_answers_come_much_later_than_at_first(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sweeping, "SLOWER_S", 0.02)
    server = StallingServer(encode=30, prefill=1, slow_from=50, metrics=False)
    assert "which at first took" in diagnosed(server)
    assert server.asked < 90


def test_it_stops_where_one_request_takes_very_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asking, "LEAST_DEADLINE_S", 0.1)
    monkeypatch.setattr(asking, "SUPPOSED_TOKEN_S", 0.05)
    server = StallingServer(encode=10, prefill=1, hangs_from=2, metrics=False)
    assert "a text request took more than" in diagnosed(server)
    assert server.asked == 2


@pytest.mark.parametrize(
    ("server", "asked", "said"),
    [
        (StallingServer(encode=10, prefill=1, usage=False), 1, "stream_options.include_usage"),
        (StallingServer(encode=10, prefill=1, short=5), 3, "was to go on (ignore_eos"),
        (StallingServer(encode=10, prefill=1, flush=16), 3, "turn its buffering off"),
    ],
)
def test_a_server_on_which_nothing_can_be_measured_is_left_alone(server: StallingServer, asked: int, said: str) -> None:
    assert said in diagnosed(server)
    assert server.asked == asked


def test_requests_begin_no_faster_than_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "QUICK", Effort(3.0, 0.1, (1 / 8, 1 / 2, 1.0), 4, (1, 2, 3), 3))
    server = StallingServer(encode=1, prefill=1)
    assert "On average no more than 10 requests a second" in diagnosed(server, "--rate", "10")
    ours = [at for at, stream in server.begun if not stream]
    assert len(ours) > 14  # more than the first requests: sweeps, too
    assert (len(ours) - 1) / (ours[-1] - ours[0]) < 10.5


def test_ctrl_c_ends_it_leaves_nothing_at_the_server_and_loses_nothing(tmp_path: Path) -> None:
    server = StallingServer(encode=10, prefill=1, metrics=False)
    program = "from bench.diagnosis.command import diagnose; diagnose()"
    with running(server):
        arguments = [server.url, "--yes", "--json", str(tmp_path / "found.json")]
        process = subprocess.Popen([sys.executable, "-c", program, *arguments], stdout=subprocess.PIPE, text=True)
        wait_until(lambda: len(server.running) >= 4 and server.asked >= 18)
        process.send_signal(signal.SIGINT)
        output, _ = process.communicate(timeout=PATIENCE_S)
        wait_until(lambda: not server.running)
    assert process.returncode == 130
    assert "stopped: nothing more is sent" in output
    assert "Traceback" not in output
    assert server.broken_off >= 4
    assert any(row["what"] == "point" for row in json.loads((tmp_path / "found.json").read_text())["series"])
