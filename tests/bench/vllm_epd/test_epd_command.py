import json
from pathlib import Path

import pytest
from aiohttp import web
from click.testing import CliRunner, Result
from played_engine import PlayedEngine, playing

from bench.cli import bench as command

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def no_settling(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bench.vllm_epd.run.SETTLE_S", 0.0)


def invoke(*arguments: str | Path) -> Result:
    return CliRunner().invoke(command, ["vllm-epd", *map(str, arguments)])


def test_two_running_endpoints_are_compared(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    report, plot = tmp_path / "vllm_epd.json", tmp_path / "epd.svg"
    with playing(PlayedEngine(key="key")) as ours, playing(PlayedEngine(key="key")) as theirs:
        running = ["--quick", "--endpoint", ours.url, "--against", theirs.url, "--api-key", "key"]
        result = invoke(*running, "--json", report, "--plot", plot, "--resume", tmp_path / "journal")
        assert result.exit_code == 0, result.output
        asked = len(ours.asked), len(theirs.asked)
        again = invoke(*running, "--resume", tmp_path / "journal")
    assert again.exit_code == 0, again.output
    assert asked == (len(ours.asked), len(theirs.asked))
    assert asked[0] == asked[1] > 0
    written = json.loads(report.read_text())
    assert (written["name"], written["command"]) == (
        "vllm_epd",
        f"chiasm bench vllm-epd --quick --endpoint {ours.url} --against {theirs.url}",
    )
    assert set(written["headline"]) == {
        *("ttft_p50_vs_vllm_epd", "ttft_p50_vs_vllm_epd_1img"),
        *("throughput_vs_vllm_epd", "throughput_vs_vllm_epd_1img"),
    }
    for name, figure in written["headline"].items():
        assert f"{name:<32}{figure:g}\n" in result.output
        assert f"{name:<32}{figure:g}\n" in again.output
    assert plot.stat().st_size > 1000
    assert written["setting"]["prefill_chunks"] == {"split": [], "vllm-epd": []}
    assert written["setting"]["nonce"]


def test_failed_requests_are_not_passed_over() -> None:
    class Forgetful(PlayedEngine):
        async def _stream(self, request: web.Request, tokens: int) -> web.StreamResponse:
            return await super()._stream(request, 0 if len(self.asked) % 8 == 1 else tokens)

    with playing(PlayedEngine()) as ours, playing(Forgetful()) as theirs:
        result = invoke("--quick", "--endpoint", ours.url, "--against", theirs.url)
    assert result.exit_code == 0, result.output
    assert "requests to vllm-epd failed; no figure to quote is of a point where one did" in result.output
    assert "to split failed" not in result.output


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--endpoint", "http://x"], "belong together"),
        (["--against", "http://x"], "belong together"),
        (["--endpoint", "http://x", "--against", "http://y", "--calibrated"], "Leave --calibrated out"),
    ],
)
def test_options_that_do_not_fit_together_are_refused(options: list[str], said: str) -> None:
    result = invoke(*options)
    assert result.exit_code == 2
    assert said in result.output


def test_where_nobody_answers_that_is_said() -> None:
    with playing(PlayedEngine()) as ours, playing(PlayedEngine()) as theirs:
        gone = theirs.url
    with playing(PlayedEngine()) as ours:
        result = invoke("--endpoint", ours.url, "--against", gone)
    assert result.exit_code == 1
    assert gone in result.output
    assert "Traceback" not in result.output


def test_a_folder_of_another_run_is_refused(tmp_path: Path) -> None:
    with playing(PlayedEngine()) as ours, playing(PlayedEngine()) as theirs:
        running = ["--endpoint", ours.url, "--against", theirs.url, "--resume", tmp_path]
        assert invoke("--quick", *running).exit_code == 0
        longer = invoke(*running)
        exchanged = invoke("--quick", "--endpoint", theirs.url, "--against", ours.url, "--resume", tmp_path)
    for result, differs in ((longer, "rounds"), (exchanged, "command")):
        assert result.exit_code == 1
        assert "other settings" in result.output
        assert differs in result.output


def test_a_folder_that_cannot_be_one_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    result = invoke("--endpoint", "http://x", "--against", "http://y", "--resume", tmp_path / "file" / "below")
    assert result.exit_code == 1
    assert str(tmp_path / "file" / "below") in result.output


def test_an_endpoint_that_answers_nothing_is_no_result(tmp_path: Path) -> None:
    report = tmp_path / "vllm_epd.json"
    with playing(PlayedEngine(status=503)) as ours, playing(PlayedEngine()) as theirs:
        result = invoke("--quick", "--endpoint", ours.url, "--against", theirs.url, "--json", report)
    assert result.exit_code == 1
    assert "Nothing is reported" in result.output
    assert not report.exists()
