"""The same requests by two tools; vllm bench serve is played, but for one test that has the real one."""

import base64
import io
import itertools
import json
import random
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from PIL import Image
from played_server import MODEL, Played, playing

from bench.load.pictures import picture
from bench.load.slopes import ratio
from bench.load.workloads import MIXES, BadWorkload
from bench.load_generators import Load, Target, run_load
from bench.serve.command import serve
from bench.serve.cross_check import TOKENS, Found, headline, rows
from bench.serve.foreign import Alike, OnTheSame, alike
from chiasm.ask import chat_body
from chiasm.models.tiny import Family, build_processor

pytestmark = pytest.mark.slow

THEIRS = {"request_throughput": 1.0, "median_ttft_ms": 100.0}
PLAYED = """
import json, sys, urllib.request
words = dict(zip(sys.argv, sys.argv[1:]))
contents = [json.loads(line)["content"] for line in open(words["--dataset-path"])]
said = json.dumps({"vllm": contents, "max_tokens": 1}).encode()
headers = {"Content-Type": "application/json"}
urllib.request.urlopen(urllib.request.Request(words["--base-url"] + words["--endpoint"], said, headers)).read()
count = len(contents)
named = [f"{s}_{t}_ms" for t in ("ttft", "tpot", "itl", "e2el") for s in ("mean", "median", "std", "p90", "p95", "p99")]
named += ["request_throughput", "output_throughput", "total_token_throughput"]
json.dump({"completed": count - MISSING, **dict.fromkeys(named, 1.0)}, open("report.json", "w"))
"""


def bodies(dice: random.Random) -> list[Any]:
    return [chat_body(None, [picture(56, 28, dice)], "abc", max_tokens=5, temperature=0, ignore_eos=True)] * 2


def pixels(part: Any) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(part["image_url"]["url"].partition(",")[2]))).convert("L")


def test_both_tools_have_the_same_requests_and_lengths(dice: random.Random) -> None:
    requests = alike([chat_body(None, [], "abc", max_tokens=9, temperature=0), *bodies_without_eos(dice)], 7)
    assert requests.options == {"temperature": 0}
    assert requests.contents[0] == [{"type": "text", "text": "abc"}]
    assert [part["type"] for part in requests.contents[1]] == ["image_url", "text"]
    [first, _, _] = requests.bodies()
    assert first == {
        "messages": [{"role": "user", "content": [{"type": "text", "text": "abc"}]}],
        "temperature": 0,
        "max_completion_tokens": 7,
    }


def bodies_without_eos(dice: random.Random) -> list[Any]:
    return [{name: value for name, value in body.items() if name != "ignore_eos"} for body in bodies(dice)]


def test_back_to_front_is_the_same_work_and_no_cache_knows_it() -> None:
    half = Image.new("RGB", (56, 28), "black")
    half.paste("white", (28, 0, 56, 28))
    file = io.BytesIO()
    half.save(file, "PNG")
    url = "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()
    [turned, text] = alike([chat_body(None, [url], "abc")], 7).mirrored().contents[0]
    assert text["text"] == "cba"
    assert pixels(turned).size == (56, 28)
    assert [pixels(turned).getpixel((x, 14)) for x in (3, 52)] == [255, 0]


def test_what_the_other_tool_cannot_send_is_refused(dice: random.Random) -> None:
    plain = chat_body(None, [], "abc", temperature=0)
    with pytest.raises(BadWorkload, match="the same options with all requests"):
        alike([plain, plain | {"temperature": 1}], 7)
    with pytest.raises(BadWorkload, match="one message of a user"):
        alike([chat_body(None, [], "abc", system="be kind")], 7)
    with pytest.raises(BadWorkload, match="only text and pictures that are sent along"):
        alike([chat_body(None, ["http://images/1.png"], "abc")], 7).mirrored()


@pytest.fixture
def dice() -> random.Random:
    return random.Random(1)


def test_its_command_line_says_what_we_do(dice: random.Random, tmp_path: Path) -> None:
    requests = alike(bodies(dice), 7)
    tool = OnTheSame(requests, rate=2.5, burstiness=float("inf"), seed=3, key="secret")
    command = tool.command(Target("http://x", "model", "tokenizer"), Load(2, 2), tmp_path)
    told = dict(itertools.pairwise(command))
    assert (told["--request-rate"], told["--burstiness"], told["--num-prompts"]) == ("2.5", "inf", "2")
    assert (told["--custom-output-len"], told["--seed"]) == ("7", "3")
    assert json.loads(told["--extra-body"]) == {"temperature": 0, "ignore_eos": True}
    sent = [json.loads(line)["content"] for line in Path(told["--dataset-path"]).read_text().splitlines()]
    assert sent == list(requests.contents)
    assert "secret" not in command
    assert tool.environment(Target("http://x", "model", "tokenizer"))["OPENAI_API_KEY"] == "secret"


def test_the_difference_is_told_with_its_noise() -> None:
    ours, theirs = [101.0, 104.0, 102.0], [100.0, 101.0, 99.0]
    found = Found(
        rate=2.0,
        ours=[{"median_ttft_ms": value, "request_throughput": 1.0, "max_late_ms": 1.0} for value in ours],
        theirs=[{"median_ttft_ms": value, "request_throughput": 1.0, "client": "vllm"} for value in theirs],
    )
    first, second = rows(found)
    assert (first["figure"], first["vllm_bench_serve"], first["rounds"]) == ("median_ttft_ms", 100, 3)
    assert first["difference_percent"] == pytest.approx(100 * (307 / 300 - 1))  # of means, as the interval is
    assert first["low_percent"] == pytest.approx(100 * (ratio(ours, theirs).low - 1))
    assert first["low_percent"] < first["difference_percent"] < first["high_percent"]
    assert (second["figure"], second["difference_percent"], second["equivalent"]) == ("request_throughput", 0, True)
    assert headline([first, second]) == {
        "median_ttft_ms_difference_percent": 2.33,
        "request_throughput_difference_percent": 0.0,
        "within_noise_of_5": 2.0,
        "equivalent_of_5": float(first["equivalent"]) + 1,
    }


@pytest.mark.parametrize(
    ("theirs", "equivalent"),
    [
        ([100.0, 101.0, 99.0], True),
        ([92.0, 93.0, 91.0], False),  # surely another figure
        ([100.0, 120.0, 80.0], False),  # so noisy that nothing is shown, though 0 % is within the interval
    ],
)
def test_noise_does_not_make_the_tools_equivalent(theirs: list[float], equivalent: bool) -> None:
    ours = [100.0, 100.5, 99.5]
    found = Found(2.0, [{"median_itl_ms": each} for each in ours], [{"median_itl_ms": each} for each in theirs])
    [row] = rows(found)
    assert row["equivalent"] is equivalent
    assert "equivalent" not in rows(Found(2.0, [{"p90_itl_ms": 1.0}] * 3, [{"p90_itl_ms": 1.0}] * 3))[0]


def play(monkeypatch: pytest.MonkeyPatch, missing: int = 0) -> None:
    """The real command line, and another program."""
    real = OnTheSame.command

    def command(tool: OnTheSame, target: Target, load: Load, folder: Path) -> list[str]:
        _python, _m, _module, *arguments = real(tool, target, load, folder)
        return [sys.executable, "-c", PLAYED.replace("MISSING", str(missing)), *arguments]

    monkeypatch.setattr(OnTheSame, "command", command)


def test_both_tools_ask_one_server_in_turn(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    play(monkeypatch)
    file = tmp_path / "check.json"
    with playing(Played()) as server:
        words = ["--endpoint", server.url, "--cross-check", "--number", "3", "--rounds", "3", "--workload", "1img"]
        result = CliRunner().invoke(serve, [*words, "--json", str(file)])
    assert result.exit_code == 0, result.output
    tools = ["vllm" if "vllm" in body else "ours" for body in server.asked]
    ours = ["ours"] * 3
    assert tools == [*ours, *ours, "vllm", "vllm", *ours, *ours, "vllm"]  # to find the rate, and three rounds
    assert {body["max_completion_tokens"] for body in server.asked if "vllm" not in body} == {TOKENS}
    sent = [body["messages"][0]["content"] for body in server.asked[3:6]]
    assert server.asked[6]["vllm"] == [list(content) for content in Alike(tuple(sent), {}, TOKENS).mirrored().contents]
    assert "median_ttft_ms" in result.stdout
    report = json.loads(file.read_text())
    assert report["name"] == "cross_check"
    assert {"median_ttft_ms_difference_percent", "request_throughput_difference_percent"} <= report["headline"].keys()
    assert all(row["vllm_bench_serve"] == 1.0 and row["request_rate"] > 0 for row in report["series"])


def test_a_request_that_fails_ends_the_check(monkeypatch: pytest.MonkeyPatch) -> None:
    play(monkeypatch, missing=1)
    with playing(Played()) as server:
        result = CliRunner().invoke(serve, ["--endpoint", server.url, "--cross-check", "--quick", "--rate", "100"])
    assert result.exit_code == 1
    assert "vllm bench serve had no answer to 1 of 8 requests" in result.output


def test_a_server_that_refuses_ends_the_check_in_its_words(monkeypatch: pytest.MonkeyPatch) -> None:
    play(monkeypatch)
    with playing(Played(refuses=100)) as server:
        result = CliRunner().invoke(serve, ["--endpoint", server.url, "--cross-check", "--quick"])
    assert result.exit_code == 1
    assert "8 of 8 requests failed" in result.output
    assert "no images, please" in result.output


@pytest.mark.engine
@pytest.mark.timeout(300)
def test_the_real_tool_sends_our_very_requests(dice: random.Random, tmp_path: Path) -> None:
    """Importing vLLM takes as long as starting an engine."""
    import torch  # noqa: F401  # before transformers: see chiasm.plugins.repair_torch_companions

    build_processor(Family.QWEN2_5_VL).save_pretrained(tmp_path / "tokenizer")
    mix = replace(MIXES["mixed"], images=(0, 2), sides=((56, 28),))
    requests: Alike = alike([body for _, body in mix.bodies(4, dice)], 5)
    tool = OnTheSame(requests, rate=20.0, burstiness=float("inf"), seed=1, key="secret")
    with playing(Played()) as server:
        found = run_load(tool, Target(server.url, MODEL, str(tmp_path / "tokenizer")), Load(4, 4), tmp_path, 250)
    assert (found["completed"], found["failed"]) == (4, 0)
    assert found["median_ttft_ms"] > 0
    ours = [
        {**body, "model": MODEL, "stream": True, "stream_options": {"include_usage": True}}
        for body in requests.bodies()
    ]
    assert sorted(map(str, (sorted(body.items()) for body in server.asked))) == sorted(
        map(str, (sorted(body.items()) for body in ours))
    )
    assert server.keys == {"Bearer secret"}
