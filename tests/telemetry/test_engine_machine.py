"""What an engine answers about its machine, and that peaks are measured once, and at the right time."""

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import msgspec
import pytest
from fastapi import FastAPI
from live_engines import HERE, machine

from chiasm.telemetry.live import engine_machine
from chiasm.telemetry.live.engine_machine import MachinePeaks, PeaksUnknown, add_machine_routes
from chiasm.telemetry.live.machine import Machine
from chiasm.telemetry.signature import peaks as peaks_module
from chiasm.telemetry.signature.peaks import Best, Conditions, Peaks, best_peaks, kept_peaks

pytestmark = pytest.mark.slow

BEST = Best(Peaks(1e11, 1e10, 1.2e10), dict.fromkeys(("flops_per_s", "copy_bytes_per_s", "read_bytes_per_s"), "monday"))


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "chiasm" / "peaks"


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> list[Conditions]:
    """The conditions under which was measured, instead of in another process."""
    asked: list[Conditions] = []

    async def measure(conditions: Conditions) -> Best:
        asked.append(conditions)
        await asyncio.sleep(0)
        return BEST

    monkeypatch.setattr(engine_machine, "_measured_apart", measure)
    return asked


@pytest.fixture
def work(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Gives the engine so many requests."""
    return lambda requests: monkeypatch.setattr(engine_machine, "_unfinished", lambda: requests)


async def test_who_asks_at_the_same_time_waits_for_one_measurement(measured: list[Conditions]) -> None:
    peaks = MachinePeaks(HERE)
    assert peaks.kept() is None
    assert await asyncio.gather(peaks.measure(), peaks.measure()) == [BEST, BEST]
    assert measured == [HERE]
    assert peaks.kept() == BEST


async def test_what_is_kept_on_the_node_is_not_measured_again(measured: list[Conditions], folder: Path) -> None:
    best_peaks(HERE, folder, lambda _: BEST.peaks, "monday")
    peaks = MachinePeaks(HERE)
    assert peaks.kept() == BEST
    assert await peaks.measure() == BEST
    assert measured == []


async def test_an_engine_with_work_is_left_to_it(measured: list[Conditions], work: Callable[[float], None]) -> None:
    work(1)
    with pytest.raises(PeaksUnknown, match="has work"):
        await MachinePeaks(HERE).measure()
    assert measured == []
    work(0)
    assert await MachinePeaks(HERE).measure() == BEST


def test_its_own_metrics_tell_an_engine_whether_it_has_work() -> None:
    from prometheus_client import REGISTRY, Gauge

    before = engine_machine._unfinished()
    gauges = [Gauge(name, "…", ["engine"]) for name in ("vllm:num_requests_running", "vllm:num_requests_waiting")]
    try:
        for gauge in gauges:
            gauge.labels("0").set(2)
        assert engine_machine._unfinished() - before == 4
    finally:
        for gauge in gauges:
            REGISTRY.unregister(gauge)


@pytest.mark.timeout(240)
async def test_a_measurement_that_fails_says_why() -> None:
    nonsense = msgspec.convert(msgspec.to_builtins(HERE) | {"dtype": "no_format"}, Conditions)
    with pytest.raises(PeaksUnknown, match="no_format"):
        await engine_machine._measured_apart(nonsense)


def test_the_process_that_measures_keeps_what_it_finds_and_prints_it(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(peaks_module.SIDES, "cpu", (64,))
    monkeypatch.setitem(peaks_module.COPIED_BYTES, "cpu", 1 << 20)
    import torch

    threads = torch.get_num_threads()
    try:
        peaks_module._main(Conditions("cpu", "A Processor", 1, "bfloat16", "2.13.0"))
        assert torch.get_num_threads() == 1
    finally:
        torch.set_num_threads(threads)
    printed = msgspec.json.decode(capsys.readouterr().out, type=Best)
    assert printed == kept_peaks(Conditions("cpu", "A Processor", 1, "bfloat16", "2.13.0"), folder)


async def ask(method: str, path: str, monkeypatch: pytest.MonkeyPatch) -> httpx.Response:
    monkeypatch.setattr(engine_machine, "machine_of", lambda config: machine(best=None, kv_blocks=config.blocks))
    app = FastAPI()
    add_machine_routes(app)
    app.state.chiasm_engine = SimpleNamespace(vllm_config=SimpleNamespace(blocks=7))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://engine") as client:
        return await client.request(method, path)


async def test_an_engine_says_what_it_runs_on(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    answer = await ask("GET", "/v1/chiasm/machine", monkeypatch)
    assert msgspec.json.decode(answer.content, type=Machine) == machine(best=None, kv_blocks=7)
    best_peaks(HERE, folder, lambda _: BEST.peaks, "monday")
    answer = await ask("GET", "/v1/chiasm/machine", monkeypatch)
    assert msgspec.json.decode(answer.content, type=Machine) == machine(best=BEST, kv_blocks=7)


async def test_an_engine_measures_when_told(monkeypatch: pytest.MonkeyPatch, measured: list[Any]) -> None:
    answer = await ask("POST", "/v1/chiasm/peaks", monkeypatch)
    assert (answer.status_code, msgspec.json.decode(answer.content, type=Best)) == (200, BEST)


async def test_an_engine_that_cannot_says_so(
    monkeypatch: pytest.MonkeyPatch, measured: list[Any], work: Callable[[float], None]
) -> None:
    work(1)
    answer = await ask("POST", "/v1/chiasm/peaks", monkeypatch)
    assert answer.status_code == 409
    assert "has work" in json.loads(answer.content)["reason"]


async def test_nobody_measures_by_looking(monkeypatch: pytest.MonkeyPatch) -> None:
    assert (await ask("GET", "/v1/chiasm/peaks", monkeypatch)).status_code == 405
