"""`chiasm bench serve` as people call it, on servers that are played."""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from played_server import MODEL, Played, playing

import bench.serve.command
import bench.serve.comparing
from bench.load.asking import Endpoint
from bench.load.workloads import MIXES, Mixed
from bench.serve.command import plan_of, serve
from bench.serve.options import Options
from bench.serve.plan import Amounts, Dose, Plan
from bench.topologies.arrangement import Arrangement
from bench.topologies.program import NotServing
from bench.topologies.turns import Wake

pytestmark = pytest.mark.slow

SHORT: Mapping[str, Mixed] = {name: replace(mix, output_tokens=(2, 4)) for name, mix in MIXES.items()}


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Played]:
    monkeypatch.setattr("bench.serve.options.MIXES", SHORT)
    with playing(Played()) as played:
        yield played


def call(*words: str) -> Result:
    return CliRunner().invoke(serve, words)


def test_one_server_gets_figures_by_vllms_names(server: Played, tmp_path: Path) -> None:
    file = tmp_path / "one.json"
    words = ["--rate", "50", "--number", "10", "--workload", "1img", "--goodput", "itl:60000", "ttft:60000"]
    result = call("--endpoint", f"{server.url}/v1", *words, "--api-key", "secret", "--json", str(file))
    assert result.exit_code == 0, result.output
    report = json.loads(file.read_text())
    assert report["command"] == f"chiasm bench serve --endpoint {server.url}/v1 {' '.join(words)}"
    [row] = report["series"]
    assert (row["completed"], row["failed"], row["num_prompts"], row["request_rate"]) == (10, 0, 10, 50)
    assert (row["model_id"], row["burstiness"], row["seed"]) == (MODEL, 1.0, 1)
    assert row["total_input_tokens"] == 100
    assert row["total_output_tokens"] == sum(body["max_tokens"] for body in server.asked)
    assert row["within_objectives_per_s"] == row["request_throughput"] == 10 / row["duration"]
    assert row["objectives_hold"] is True
    assert report["headline"]["median_ttft_ms"] == row["median_ttft_ms"]
    assert server.keys == {"Bearer secret"}
    assert all(body["model"] == MODEL and "image_url" in str(body["messages"]) for body in server.asked)
    assert "Prompts are counted in letters" in result.stderr


def test_objectives_that_nobody_keeps_make_no_goodput(server: Played, tmp_path: Path) -> None:
    file = tmp_path / "one.json"
    words = ["--number", "5", "--workload", "text", "--goodput", "ttft:0.000001", "itl:60000", "--json", str(file)]
    assert call("--endpoint", server.url, *words).exit_code == 0
    [row] = json.loads(file.read_text())["series"]
    assert (row["within_objectives_per_s"], row["objectives_hold"], row["request_rate"]) == (0, False, "inf")


def of_the_shape(body: Mapping[str, Any]) -> tuple[int, int, int]:
    content = body["messages"][0]["content"]
    parts = content if isinstance(content, list) else [{"type": "text", "text": content}]
    return len(parts), max(len(part.get("text", "")) for part in parts), body["max_tokens"]


def test_the_same_seed_asks_the_same_in_other_words(server: Played) -> None:
    for seed in ("3", "3", "4"):
        words = ["--quick", "--rate", "500", "--workload", "mixed", "--number", "24", "--seed", seed]
        assert call("--endpoint", server.url, *words).exit_code == 0
    one, same, other = (sorted(map(of_the_shape, server.asked[n : n + 24])) for n in (0, 24, 48))
    assert one == same != other
    said = [str(body["messages"]) for body in server.asked]
    assert len(said) == len(set(said)) == 72  # for the server's caches may know what they have seen


def test_requests_may_come_in_bursts(server: Played, tmp_path: Path) -> None:
    file = tmp_path / "one.json"
    words = ["--number", "10", "--workload", "text", "--rate", "100", "--bursts", "4", "--json", str(file)]
    assert call("--endpoint", server.url, *words).exit_code == 0
    [row] = json.loads(file.read_text())["series"]
    assert (row["bursts"], row["num_prompts"], len(server.asked)) == (4, 12, 12)  # whole bursts


def test_warm_ups_are_asked_and_not_counted(server: Played, tmp_path: Path) -> None:
    file = tmp_path / "one.json"
    words = ["--number", "5", "--workload", "text", "--num-warmups", "3", "--max-concurrency", "2", "--json", str(file)]
    assert call("--endpoint", server.url, *words).exit_code == 0
    [row] = json.loads(file.read_text())["series"]
    assert (row["completed"], row["num_warmups"], row["max_concurrency"], len(server.asked)) == (5, 3, 2, 8)
    said = [str(body["messages"]) for body in server.asked]
    assert len(set(said)) == 8


def test_warm_ups_are_other_recorded_requests_than_those_measured(server: Played, tmp_path: Path) -> None:
    file = tmp_path / "mine.jsonl"
    lines = [{"messages": [{"role": "user", "content": f"hello {n}"}], "max_tokens": 2} for n in range(12)]
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    words = ["--number", "8", "--workload", str(file), "--num-warmups", "4"]
    assert call("--endpoint", server.url, *words).exit_code == 0
    assert len({body["messages"][0]["content"] for body in server.asked}) == 12


def test_who_fails_at_warm_ups_is_not_measured(tmp_path: Path) -> None:
    with playing(Played(refuses=1)) as server:
        words = ["--number", "5", "--workload", "text", "--num-warmups", "3", "--json", str(tmp_path / "one.json")]
        result = call("--endpoint", server.url, *words)
        assert len(server.asked) == 3
    assert result.exit_code == 1
    assert "fails at 1 of 3 warm-ups: " in result.output
    assert "no images, please" in result.output
    assert not (tmp_path / "one.json").exists()


def test_failed_requests_are_counted_and_named(tmp_path: Path) -> None:
    with playing(Played(refuses=2)) as server:
        words = ["--number", "5", "--workload", "text", "--json", str(tmp_path / "one.json")]
        result = call("--endpoint", server.url, *words)
    assert result.exit_code == 1
    assert "2 of 5 requests failed" in result.output
    assert "no images, please" in result.output
    assert json.loads((tmp_path / "one.json").read_text())["series"][0]["completed"] == 3


def test_recorded_requests_and_random_mm_are_workloads(server: Played, tmp_path: Path) -> None:
    file = tmp_path / "mine.jsonl"
    file.write_text(json.dumps({"messages": [{"role": "user", "content": "hello"}], "max_tokens": 2}) + "\n")
    assert call("--endpoint", server.url, "--number", "2", "--workload", str(file)).exit_code == 0
    assert [body["messages"][0]["content"] for body in server.asked] == ["hello"] * 2
    flags = ["--random-input-len", "7", "--random-output-len", "3", "--random-mm-bucket-config", "{(56, 28, 1): 1}"]
    assert call("--endpoint", server.url, "--number", "2", "--workload", "random-mm", *flags).exit_code == 0
    text, _image = server.asked[-1]["messages"][0]["content"]
    assert len(text["text"]) == 7
    assert server.asked[-1]["max_tokens"] == 3


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--rate", "2"], "--rate is for one running server: name it with --endpoint"),
        (["--tokenizer", "x"], "--tokenizer is for one running server"),
        (["--endpoint", "http://x", "--topology", "mono"], "--topology is not for one --endpoint"),
        (["--endpoint", "http://x", "--resume", "x"], "--resume is not for one --endpoint"),
        (["--cross-check", "--full"], "--full has no meaning for --cross-check"),
        (["--workload", "pictures"], "'pictures' is no workload. Name one of: text, 1img"),
        (["--workload", "missing.jsonl"], "cannot read missing.jsonl"),
        (["--topology", "monolith"], "'monolith' is neither a URL nor one of: mono, mono-x2"),
        (["--goodput", "ttft:5000", "tpot:50"], "'tpot:50' is neither like ttft:5000 nor like itl:200"),
        (["--goodput", "ttft:5000", "ttft:50"], "--goodput takes one ttft:MS and one itl:MS"),
        (["--endpoint", "http://x", "--bursts", "4"], "--bursts needs a --rate"),
        (["--cross-check", "--bursts", "4"], "--bursts has no meaning for --cross-check"),
        (["--cross-check", "--num-warmups", "4"], "--num-warmups has no meaning for --cross-check"),
        (["--max-concurrency", "4"], "--max-concurrency is for one running server"),
        (["--prices", "missing.yaml"], "cannot read missing.yaml"),
    ],
)
def test_what_cannot_be_meant_is_refused_with_a_reason(words: list[str], said: str) -> None:
    result = call(*words)
    assert result.exit_code == 2
    assert said in result.output


def test_a_server_that_is_not_there_is_named() -> None:
    result = call("--endpoint", "http://127.0.0.1:9")
    assert result.exit_code == 1
    assert "http://127.0.0.1:9" in result.output


def options(**given: Any) -> Options:
    unset = dict.fromkeys(Options.__dataclass_fields__)
    defaults = {
        "topologies": (),
        "workload_names": (),
        "pace": 1,
        "bursts": 1,
        "seed": 1,
        "full": False,
        "quick": False,
    }
    return Options(**{**unset, **defaults, **given})


def test_full_compares_everything_and_unequal_silicon_nothing_that_has_both_cores() -> None:
    plan = plan_of(options())
    assert plan.sides == ("mono", "mono-calibrated", "split", "split+steal", "mono-x2", "mono-x2-calibrated")
    assert plan_of(options(topologies=("mono", "split"))).sides == ("mono", "split")
    everything = plan_of(options(full=True))
    assert sorted(everything.sides) == sorted(Arrangement)
    assert [one.name for one in everything.workloads] == ["text", "1img", "2img", "4img"]
    assert plan_of(options(pace=4)).sides == ("split", "split+steal", "mono-x2", "mono-x2-calibrated")
    assert not {"mono", "mono-calibrated"} & set(plan_of(options(pace=4, full=True)).sides)
    assert plan_of(options(pace=4, quick=True)).sides == ("mono-x2", "split")
    assert plan_of(options(rounds=7)).amounts.rounds == 7


@pytest.fixture
def compared(server: Played, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Played:
    """Arrangements are played by one server; nothing is started."""

    @contextmanager
    def up(sides: Sequence[str], **_: Any) -> Iterator[Mapping[str, Wake]]:
        yield {side: partial(Endpoint, server.url, MODEL) for side in sides}

    monkeypatch.setattr(bench.serve.comparing, "up", up)
    monkeypatch.setattr(bench.serve.comparing, "build_bench_model", lambda: tmp_path)
    monkeypatch.setattr(bench.serve.comparing, "groups_of", lambda sides, setting: [list(sides)])
    quick = Amounts(rounds=1, doses={}, other=Dose(4, (0.1,)), rung_s=0.0, pooled=1, settle_s=0.0)
    monkeypatch.setattr(bench.serve.command, "QUICK", quick)
    return server


def test_a_comparison_is_printed_and_written(compared: Played, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    files = ["--json", str(tmp_path / "serve.json"), "--plot", str(tmp_path / "serve.png")]
    result = call("--quick", *files, "--resume", str(tmp_path / "kept"), "--goodput", "ttft:60000", "itl:60000")
    assert result.exit_code == 0, result.output
    report = json.loads((tmp_path / "serve.json").read_text())
    assert (report["name"], report["seeds"]) == ("serve", [1])
    assert report["command"] == "chiasm bench serve --quick --goodput ttft:60000 itl:60000"
    assert report["headline"].keys() == {"image_ttft_p50_split_vs_mono"}  # both bear the highest rate
    assert {row["what"] for row in report["series"]} == {"side", "summary", "rate", "goodput", "grid", "loses"}
    [row] = [row for row in report["series"] if (row["what"], row["arrangement"]) == ("summary", "split")]
    assert row["vs_best_mono_bound"] == "both hold at the highest rate"
    assert row["price_per_hour"] > 0
    assert "image_ttft_p50_split_vs_mono" in result.output
    assert (tmp_path / "serve.png").stat().st_size > 10_000
    assert list((tmp_path / "kept").glob("*.answers.json"))


def test_a_kept_run_of_other_settings_is_not_gone_on_with(compared: Played, tmp_path: Path) -> None:
    kept = ["--quick", "--resume", str(tmp_path / "kept")]
    assert call(*kept).exit_code == 0
    result = call(*kept, "--seed", "2")
    assert result.exit_code == 1
    assert "seed (1 there, 2 now)" in result.output


def test_figures_are_made_anew_of_what_another_commit_had_measured(
    compared: Played, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept, file = ["--quick", "--resume", str(tmp_path / "kept")], tmp_path / "serve.json"
    monkeypatch.setenv("CHIASM_COMMIT", "one")
    assert call(*kept).exit_code == 0
    asked = len(compared.asked)
    monkeypatch.setenv("CHIASM_COMMIT", "two")
    assert "commit (one there, two now)" in call(*kept).output
    result = call(*kept, "--figures-only", "--json", str(file))
    assert result.exit_code == 0, result.output
    assert len(compared.asked) == asked
    report = json.loads(file.read_text())
    assert (report["commit"], report["figures_commit"]) == ("one", "two")
    assert report["command"] == "chiasm bench serve --quick"


def test_figures_alone_need_a_finished_run(compared: Played, tmp_path: Path) -> None:
    assert "--figures-only needs the folder" in call("--quick", "--figures-only").output
    kept = ["--quick", "--resume", str(tmp_path / "kept")]
    assert "holds no run" in call(*kept, "--figures-only").output
    assert call(*kept).exit_code == 0
    next((tmp_path / "kept").glob("*split, round 1.answers*")).unlink()
    asked = len(compared.asked)
    result = call(*kept, "--figures-only")
    assert result.exit_code == 1
    assert "was not measured. Cure: finish that run" in result.output
    assert len(compared.asked) == asked


def test_who_is_up_together_is_noted_for_whoever_goes_on(
    compared: Played, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = ["--quick", "--resume", str(tmp_path / "kept")]
    assert call(*kept).exit_code == 0
    asked = len(compared.asked)
    monkeypatch.setattr(bench.serve.comparing, "groups_of", lambda sides, setting: [[side] for side in sides])
    assert call(*kept).exit_code == 0
    assert len(compared.asked) == asked


def test_a_slower_core_costs_as_much_less(compared: Played, tmp_path: Path) -> None:
    words = ["--quick", "--pace", "2", "--json", str(tmp_path / "serve.json")]
    result = call(*words)
    assert result.exit_code == 0, result.output
    series = json.loads((tmp_path / "serve.json").read_text())["series"]
    assert {row["price_per_hour"] for row in series if row["what"] == "summary"} == {0.1275}
    for row in series:
        if row["what"] == "side":
            assert row["price_sources"]["slow-core"].startswith("Assumed: 1/2 of a core's price")


def test_what_does_not_come_up_ends_the_run_in_words(compared: Played, monkeypatch: pytest.MonkeyPatch) -> None:
    @contextmanager
    def up(_sides: Sequence[str], **_: Any) -> Iterator[Mapping[str, Wake]]:
        raise NotServing("mono did not come up. It said: no")
        yield {}

    monkeypatch.setattr(bench.serve.comparing, "up", up)
    result = call("--quick")
    assert result.exit_code == 1
    assert "mono did not come up. It said: no" in result.output


@pytest.mark.parametrize(
    ("words", "ttft_ms"), [((), 10000), (("--goodput", "ttft:3000", "itl:100"), 3000)], ids=["its own", "what is asked"]
)
def test_of_four_images_is_quoted(words: tuple[str, ...], ttft_ms: float, monkeypatch: pytest.MonkeyPatch) -> None:
    plans: list[Plan] = []
    monkeypatch.setattr("bench.serve.command.compare", lambda plan, *_: plans.append(plan))
    result = call(*words)
    assert result.exit_code == 0, result.output
    [plan] = plans
    assert plan.objectives_for("4img").ttft_ms == ttft_ms
