"""The routes that engines get of us, through an engine client that notes what it is asked."""

import time
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from prometheus_client import REGISTRY

from chiasm.plugins import EngineRoutes, RequireToken

PAUSE = "/v1/chiasm/pause?since=0"


class FakeClient:
    """vLLM's EngineClient, as far as it is asked here; as there, pausing clears the cache unless told not to."""

    def __init__(self) -> None:
        self.asked: list[Any] = []

    async def pause_generation(self, *, mode: str = "abort", clear_cache: bool = True) -> None:
        self.asked.append(("pause", mode, clear_cache))

    async def resume_generation(self) -> None:
        self.asked.append("resume")


@pytest.fixture
async def engine() -> FakeClient:
    return FakeClient()


async def post(engine: FakeClient, path: str, token: str, monkeypatch: pytest.MonkeyPatch) -> httpx.Response:
    monkeypatch.setenv("VLLM_API_KEY", "secret")
    app = FastAPI()
    routes = EngineRoutes()
    routes.attach_router(app)
    await routes.init_state(engine, app.state, SimpleNamespace())  # type: ignore[arg-type]
    app.add_middleware(RequireToken)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://engine") as client:
        return await client.post(path, headers={"Authorization": f"Bearer {token}"})


async def test_a_pause_keeps_what_runs_and_its_cache(engine: FakeClient, monkeypatch: pytest.MonkeyPatch) -> None:
    answer = await post(engine, PAUSE, "secret", monkeypatch)
    assert (answer.status_code, answer.json()) == (200, {"paused": True})
    assert engine.asked == [("pause", "keep", False)]


async def test_the_engines_metrics_say_how_long_a_pause_took(
    engine: FakeClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    def pauses(name: str) -> float:
        return REGISTRY.get_sample_value(f"chiasm_pause_seconds_{name}") or 0.0

    count, seconds = pauses("count"), pauses("sum")
    await post(engine, f"/v1/chiasm/pause?since={time.time() - 7}", "secret", monkeypatch)
    assert pauses("count") == count + 1
    assert 7 <= pauses("sum") - seconds < 8


async def test_a_paused_engine_can_be_let_go_on(engine: FakeClient, monkeypatch: pytest.MonkeyPatch) -> None:
    answer = await post(engine, "/v1/chiasm/resume", "secret", monkeypatch)
    assert (answer.status_code, answer.json()) == (200, {"paused": False})
    assert engine.asked == ["resume"]


@pytest.mark.parametrize("path", [PAUSE, "/v1/chiasm/resume"])
async def test_only_the_cluster_may_pause_an_engine(
    engine: FakeClient, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    assert (await post(engine, path, "wrong", monkeypatch)).status_code == 401
    assert engine.asked == []


async def test_nobody_pauses_by_looking(engine: FakeClient, monkeypatch: pytest.MonkeyPatch) -> None:
    """A GET, as a browser or a crawler sends it, is no such route."""
    monkeypatch.setenv("VLLM_API_KEY", "secret")
    app = FastAPI()
    EngineRoutes().attach_router(app)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://engine") as client:
        assert (await client.get("/v1/chiasm/pause")).status_code == 405
