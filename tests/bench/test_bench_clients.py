import ast
import contextlib
import json
import sys
from pathlib import Path
from typing import Any

import click
import psutil
import pytest
from click.testing import CliRunner

import bench.clients
from bench.clients import FULL, QUICK, find_aiperf, headline
from bench.load_generators import (
    LARGEST,
    OUTPUT_TOKENS,
    SMALLEST,
    AIPerf,
    GeneratorFailed,
    Load,
    Target,
    VllmBench,
    run_load,
)

pytestmark = pytest.mark.slow

TARGET = Target("http://127.0.0.1:1", "model", "/tokenizer")


def vllm_report(folder: Path, lengths: list[int], errors: list[str] | None = None) -> None:
    report: dict[str, Any] = {
        "output_lens": lengths,
        "errors": errors or [""] * len(lengths),
        "itls": [[0.01] * OUTPUT_TOKENS] * len(lengths),
        **dict.fromkeys(
            ("duration", "request_throughput", "output_throughput", "total_input_tokens", "total_output_tokens"), 5
        ),
        **{f"{s}_{t}_ms": 7.5 for s in ("mean", "median", "p95", "p99") for t in ("ttft", "tpot", "itl", "e2el")},
    }
    (folder / "report.json").write_text(json.dumps(report))


def aiperf_report(folder: Path, lengths: list[int | None]) -> None:
    answered = [length for length in lengths if length is not None]
    metric = {"avg": 1.5, "p50": 2.5, "p95": 3.5, "p99": 4.5, "count": len(answered)}
    times = ("time_to_first_token", "inter_token_latency", "request_latency")
    totals = ("benchmark_duration", "request_throughput", "output_token_throughput", "total_isl", "total_osl")
    report = {
        "aiperf_version": "0.13.0",
        **dict.fromkeys(times, metric),
        "inter_chunk_latency": metric | {"count": len(answered) * (OUTPUT_TOKENS - 1)},
        **{total: {"avg": 5} for total in totals},
    }
    (folder / "profile_export_aiperf.json").write_text(json.dumps(report))
    lines: list[dict[str, Any]] = [
        {"error": {"code": 502}} if n is None else {"metrics": {"output_sequence_length": {"value": n}}}
        for n in lengths
    ]
    (folder / "profile_export.jsonl").write_text("\n".join(map(json.dumps, lines)))


class Scripted(VllmBench):
    """A load generator that is a Python script."""

    def __init__(self, script: str) -> None:
        self.script = script

    def command(self, target: Target, load: Load, folder: Path) -> list[str]:
        return [sys.executable, "-c", self.script]

    def figures(self, folder: Path, load: Load) -> dict[str, Any]:
        return {"version": "1", "completed": int((folder / "report").read_text()), "mean_ttft_ms": 1.0}


def test_vllms_report_counts_only_answers_in_full_length(tmp_path: Path) -> None:
    vllm_report(tmp_path, [OUTPUT_TOKENS, OUTPUT_TOKENS, 9, 0], ["", "", "", "Bad Gateway"])
    figures = VllmBench().figures(tmp_path, Load(1, 4))
    assert figures["completed"] == 2
    assert figures["mean_ttft_ms"] == 7.5


def test_aiperfs_report_counts_only_answers_in_full_length(tmp_path: Path) -> None:
    aiperf_report(tmp_path, [OUTPUT_TOKENS, None, 9])
    figures = AIPerf(Path("aiperf")).figures(tmp_path, Load(1, 3))
    assert (figures["completed"], figures["version"]) == (1, "0.13.0")
    assert (figures["mean_ttft_ms"], figures["median_e2el_ms"]) == (1.5, 2.5)


@pytest.mark.parametrize(("count", "given"), [(199, set()), (200, {"p95"}), (1000, {"p95", "p99"})])
def test_a_percentile_needs_samples_beyond_it(tmp_path: Path, count: int, given: set[str]) -> None:
    vllm_report(tmp_path, [OUTPUT_TOKENS] * count)
    aiperf_report(tmp_path, [OUTPUT_TOKENS] * count)
    for generator in (VllmBench(), AIPerf(Path("aiperf"))):
        figures = generator.figures(tmp_path, Load(1, count))
        assert {name[:3] for name in figures if name.endswith("_ttft_ms")} - {"mea", "med"} == given
        assert "p99_itl_ms" in figures  # there are many gaps in an answer


def test_pictures_have_random_sizes_and_no_load_repeats_those_of_another(tmp_path: Path) -> None:
    seen = set()
    for load in FULL:
        command = VllmBench().command(TARGET, load, tmp_path)
        buckets = ast.literal_eval(command[command.index("--random-mm-bucket-config") + 1])
        sizes = {side for height, width, _ in buckets for side in (height, width)}
        assert len(buckets) > 10
        assert SMALLEST <= min(sizes) < max(sizes) <= LARGEST
        aiperf = AIPerf(Path("aiperf")).command(TARGET, load, tmp_path)
        assert float(aiperf[aiperf.index("--image-width-stddev") + 1]) > 0
        assert aiperf[aiperf.index("--num-dataset-entries") + 1] == str(load.requests)
        seen.add((frozenset(buckets), command[command.index("--seed") + 1]))
    assert len(seen) == len(FULL)
    assert [load.concurrency for load in FULL] == [1, 8, 32]


def test_the_hub_is_off_for_a_folder_but_never_for_aiperf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    local = Target("http://x", "model", str(tmp_path))
    assert VllmBench().environment(local)["HF_HUB_OFFLINE"] == "1"
    assert "HF_HUB_OFFLINE" not in AIPerf(Path("aiperf")).environment(local)


def test_a_load_becomes_a_point_of_the_series(tmp_path: Path) -> None:
    point = run_load(Scripted("open('report', 'w').write('3')"), TARGET, Load(8, 4), tmp_path, 30)
    assert point == {
        "client": "vllm",
        "version": "1",
        "max_concurrency": 8,
        "num_prompts": 4,
        "completed": 3,
        "failed": 1,
        "mean_ttft_ms": 1.0,
    }


def test_a_generator_without_a_report_is_quoted(tmp_path: Path) -> None:
    with pytest.raises(GeneratorFailed, match=r"(?s)no report \(exit code 3\).*no such model"):
        run_load(Scripted("print('no such model'); raise SystemExit(3)"), TARGET, Load(1, 1), tmp_path, 30)


def test_a_generator_that_does_not_end_is_ended_with_its_children(tmp_path: Path) -> None:
    script = """
import subprocess, sys
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
open("child", "w").write(str(child.pid))
child.wait()
"""
    with pytest.raises(GeneratorFailed, match="did not end within 5 s"):
        run_load(Scripted(script), TARGET, Load(1, 1), tmp_path, 5)
    child = int((tmp_path / "child").read_text())
    with contextlib.suppress(psutil.NoSuchProcess):
        psutil.Process(child).wait(10)  # it has been killed, but may not be gone yet


@pytest.mark.parametrize(("completed", "code"), [(24, 0), (23, 1)])
def test_the_exit_code_says_whether_all_were_answered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, completed: int, code: int
) -> None:
    def run(generator: Any, target: Target, load: Load, folder: Path, timeout_s: float) -> dict[str, Any]:
        named = {"client": generator.name, "version": "1", "max_concurrency": load.concurrency}
        counted = {"num_prompts": load.requests, "completed": completed, "failed": load.requests - completed}
        times = dict.fromkeys(("request_throughput", "mean_ttft_ms", "mean_tpot_ms", "mean_e2el_ms"), 1.0)
        return named | counted | times

    monkeypatch.setattr(bench.clients, "run_load", run)
    monkeypatch.setattr(bench.clients, "find_target", lambda url, tokenizer: TARGET)
    (tmp_path / "aiperf").touch()
    arguments = ["--quick", "--endpoint", "http://x", "--aiperf", str(tmp_path / "aiperf"), "--json"]
    result = CliRunner().invoke(bench.clients.clients, [*arguments, str(tmp_path / "clients.json")])
    assert result.exit_code == code, result.output
    report = json.loads((tmp_path / "clients.json").read_text())
    assert report["command"] == "chiasm bench clients --quick --endpoint http://x"
    assert [point["client"] for point in report["series"]] == ["vllm", "aiperf"]
    assert report["headline"]["success_percent"] == pytest.approx(100 * completed / QUICK[0].requests)


def test_the_headline_counts_every_load() -> None:
    point = {"client": "vllm", "num_prompts": 10, "request_throughput": 2.0, "mean_ttft_ms": 3.0}
    figures = headline(
        [point | {"max_concurrency": 1, "completed": 10}, point | {"max_concurrency": 8, "completed": 5}]
    )
    assert figures["success_percent"] == 75
    assert figures["vllm_c8_mean_ttft_ms"] == 3


def test_aiperf_is_asked_for_by_the_command_that_installs_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(click.UsageError, match="make aiperf"):
        find_aiperf([tmp_path / "aiperf"])
    (tmp_path / "aiperf").touch(mode=0o755)
    assert find_aiperf([]) == tmp_path / "aiperf"
