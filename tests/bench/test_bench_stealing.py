"""The benchmark of work stealing: what it asks, and what it makes of answers; engines are played."""

import asyncio
import itertools
import json
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from click.testing import CliRunner

import bench.stealing
from bench.percentiles import percentile, percentile_of_histogram, tail
from bench.stealing import OFF, STEALING, TWO_ENGINES, Run, ratios, stealing
from bench.stealing_traffic import Mixture, burst, image_question, mixed, question
from bench.streams import Stream, Target, Unanswered

pytestmark = pytest.mark.slow

PHASES = "fetch;dur=1.0, encode_queue;dur=2.0, encode;dur=30.0"


class Played:
    """An engine of the bench model: a token each millisecond, as many as it is asked for, less `missing`."""

    def __init__(self, missing: int = 0) -> None:
        self.asked: list[dict[str, Any]] = []
        self._missing = missing

    async def answer(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        self.asked.append(body | {"key": request.headers["Authorization"].removeprefix("Bearer ")})
        if body["max_tokens"] == 0:
            return web.Response(status=503, text="no engine")
        response = web.StreamResponse(headers={"Server-Timing": PHASES})
        await response.prepare(request)
        await response.write(b'data: {"choices": [{"delta": {"role": "assistant", "content": ""}}]}\n\n')
        for _ in range(body["max_tokens"] - self._missing):
            await asyncio.sleep(0.001)
            await response.write(b'data: {"choices": [{"delta": {"content": "x"}}]}\n\n')
        await response.write(b"data: [DONE]\n\n")
        return response


@pytest.fixture
async def serve() -> AsyncIterator[Callable[[Played], Awaitable[Target]]]:
    runners = []

    async def serve(played: Played) -> Target:
        app = web.Application()
        app.router.add_post("/v1/chat/completions", played.answer)
        runners.append(runner := web.AppRunner(app, shutdown_timeout=0))
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        return Target(f"http://127.0.0.1:{runner.addresses[0][1]}", "key")

    yield serve
    for runner in runners:
        await runner.cleanup()


async def test_a_burst_goes_where_least_is_owed(serve: Callable[[Played], Awaitable[Target]]) -> None:
    engines = [Played(), Played()]
    targets = [await serve(engine) for engine in engines]
    lengths = (90, 30, 20, 30, 10)
    found = await burst(targets, [{"max_tokens": length} for length in lengths])
    assert [sorted(body["max_tokens"] for body in engine.asked) for engine in engines] == [[90], [10, 20, 30, 30]]
    assert found.tokens == sum(lengths)
    assert 0.09 <= found.seconds < 30
    assert found.tokens_per_s == found.tokens / found.seconds


@pytest.mark.parametrize(("missing", "length", "message"), [(1, 5, "gave 4 of 5 tokens"), (0, 0, "answered 503")])
async def test_an_answer_that_is_not_complete_is_none(
    serve: Callable[[Played], Awaitable[Target]], missing: int, length: int, message: str
) -> None:
    target = await serve(Played(missing))
    with pytest.raises(ExceptionGroup) as failed:
        await burst([target], [{"max_tokens": length}])
    assert failed.group_contains(Unanswered, match=message)


async def test_images_come_by_the_clock_beside_text_without_a_pause(
    serve: Callable[[Played], Awaitable[Target]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bench.stealing_traffic.ANSWER", (20, 40))
    played = Played()
    target = await serve(played)
    mixture = Mixture(streams=3, images_per_s=20, lead_in_s=0.3, window_s=0.7)
    arrivals = mixture.arrivals(random.Random("seed"))
    assert arrivals == sorted(arrivals)
    found = await mixed(target, Target(target.url, "images"), mixture, "seed")
    images = [body for body in played.asked if body["key"] == "images"]
    assert len(images) == len(arrivals)
    assert 0 < len(found.images) < len(images)  # some come while nothing is counted yet
    assert all(stream.ttft_s > 0 and stream.phases_ms["encode"] == 30.0 for stream in found.images)
    pictures = {json.dumps(body["messages"]) for body in images}
    assert len(pictures) == len(images)
    assert found.text_tokens_per_s > 100
    assert all(0 <= itl_s < 1 for itl_s in found.text_itls_s)
    assert len(found.text_itls_s) > 0.9 * found.text_tokens_per_s * mixture.window_s  # all but streams' first tokens


def test_questions_are_drawn_from_seeds() -> None:
    for draw in (question, image_question):
        assert draw(random.Random(1)) == draw(random.Random(1)) != draw(random.Random(2))


def test_ratios_are_of_the_same_round() -> None:
    rates = {(TWO_ENGINES, 1): 100.0, (STEALING, 1): 90.0, (TWO_ENGINES, 2): 50.0, (STEALING, 2): 48.0}
    series = [
        {"traffic": "burst", "against": TWO_ENGINES, "arrangement": name, "round": number, "tokens_per_s": rate}
        for (name, number), rate in rates.items()
    ]
    assert ratios(series, TWO_ENGINES) == [0.9, 0.96]


def test_percentiles() -> None:
    values = [float(value) for value in range(100, 0, -1)]
    assert [percentile(values, share) for share in (0.5, 0.95, 0.99)] == [50, 95, 99]
    assert [tail(count) for count in (999, 1000)] == [0.95, 0.99]
    buckets = {0.01: 0, 0.02: 10, 0.04: 10, 0.08: 20, float("inf"): 20}
    assert percentile_of_histogram(buckets, 0.25) == pytest.approx(0.015)
    assert percentile_of_histogram(buckets, 0.5) == pytest.approx(0.02)
    assert percentile_of_histogram(buckets, 0.75) == pytest.approx(0.06)
    with pytest.raises(ValueError, match="no bucket"):
        percentile_of_histogram({0.01: 1, float("inf"): 2}, 0.9)


def test_the_report_has_the_headline_and_the_plot_every_panel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("matplotlib")
    monkeypatch.setattr(bench.stealing, "build_bench_model", lambda: tmp_path)
    monkeypatch.setattr(Run, "measure", play)
    files = ["--json", str(tmp_path / "steal.json"), "--plot", str(tmp_path / "steal.svg")]
    result = CliRunner().invoke(stealing, ["--quick", *files])
    assert result.exit_code == 0, result.output
    report = json.loads((tmp_path / "steal.json").read_text())
    assert report["headline"] == {
        "text_burst_vs_two_engines": 0.95,
        "text_burst_throughput_on_vs_off": 1.9,
        "image_ttft_p95_on_vs_off": 1.1,
        "mixed_text_throughput_on_vs_off": 1.5,
        "mixed_text_itl_p99_on_vs_off": 1.1,
        "pause_to_encode_p50_ms": 50.0,
        "pause_to_encode_p95_ms": 95.0,
    }
    assert (report["name"], report["command"]) == ("steal", "chiasm bench stealing --quick")
    assert (tmp_path / "steal.svg").stat().st_size > 1000


def play(run: Run, _model: Path) -> None:
    """As if it had been measured."""
    rates = ((TWO_ENGINES, TWO_ENGINES, 100.0), (TWO_ENGINES, STEALING, 95.0), (OFF, OFF, 50.0), (OFF, STEALING, 95.0))
    for against, name, rate in rates:
        row = {"traffic": "burst", "against": against, "arrangement": name, "round": 1, "tokens_per_s": rate}
        run.series.append(row | dict.fromkeys(("seconds", "stolen", "engine_cores", "other_cores"), 1))
    for name, rate, slower in ((STEALING, 75.0, 1.1), (OFF, 50.0, 1.0)):
        row = {"traffic": "mixed", "arrangement": name, "block": 1, "text_tokens_per_s": rate, "image_ttft_p50_ms": 1}
        run.series.append(
            row | dict.fromkeys(("text_itl_p99_ms", "text_itl_max_ms", "images", "stolen", "paused", "returned"), 1)
        )
        ttfts = itertools.accumulate([slower] * 20)
        run.images[name] = [Stream(0.0, [ttft]) for ttft in ttfts]
        run.text_itls_s[name] = [slower * number for number in range(1, 101)]
    run.pauses = {0.1: 100, float("inf"): 100}
