"""The routes that engines get of us, through an engine client that notes what it is asked."""

import time
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import httpx
import msgspec
import pytest
from fastapi import FastAPI
from prometheus_client import REGISTRY

from chiasm.api_paths import CHAT_PATH
from chiasm.plugins import EngineRoutes, RequireToken
from chiasm.telemetry.engine.memory import RECORDS_VARIABLE, EngineMemory, engine_memory
from chiasm.telemetry.records import EngineCall, EngineRecords, Step, Transfer
from chiasm.wire.settings import RUNTIME_VARIABLE

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


@pytest.fixture(autouse=True)
def memory() -> Iterator[EngineMemory]:
    engine_memory.cache_clear()
    yield engine_memory()
    engine_memory.cache_clear()


async def ask(
    method: str, engine: FakeClient, path: str, token: str, monkeypatch: pytest.MonkeyPatch
) -> httpx.Response:
    monkeypatch.setenv("VLLM_API_KEY", "secret")
    app = FastAPI()
    routes = EngineRoutes()
    routes.attach_router(app)
    await routes.init_state(engine, app.state, SimpleNamespace())  # type: ignore[arg-type]
    app.add_middleware(RequireToken)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://engine") as client:
        return await client.request(method, path, headers={"Authorization": f"Bearer {token}"})


async def post(engine: FakeClient, path: str, token: str, monkeypatch: pytest.MonkeyPatch) -> httpx.Response:
    return await ask("POST", engine, path, token, monkeypatch)


async def records(engine: FakeClient, query: str, monkeypatch: pytest.MonkeyPatch) -> EngineRecords:
    answer = await ask("GET", engine, f"/v1/chiasm/records{query}", "secret", monkeypatch)
    assert (answer.status_code, answer.headers["content-type"]) == (200, "application/json")
    return msgspec.json.decode(answer.content, type=EngineRecords)


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


async def test_a_pause_is_remembered_from_when_it_was_wanted_until_the_engine_went_on(
    engine: FakeClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = time.time() - 7
    await post(engine, f"/v1/chiasm/pause?since={wanted}", "secret", monkeypatch)
    [standing] = (await records(engine, "", monkeypatch)).pauses
    assert (standing.wanted, standing.ended) == (wanted, 0)
    await post(engine, "/v1/chiasm/resume", "secret", monkeypatch)
    [pause] = (await records(engine, "", monkeypatch)).pauses
    assert wanted < wanted + 7 <= pause.began <= pause.ended <= time.time()


async def test_records_are_those_of_a_call_or_all_since_a_moment(
    engine: FakeClient, memory: EngineMemory, monkeypatch: pytest.MonkeyPatch
) -> None:
    call = EngineCall("f3.1", 1.0, 2.0, 3.0, 4.0, 5.0, 7, 0, 3, 0, "stop")
    step = Step(5.0, 0.01, 1, 7, 2, 2, 0, 0, 3, 1, 0.5)
    memory.call_ended(call, ended=5.0)
    memory.stepped(step)
    for key in ("mine", "mine too", "another's"):
        memory.transferred(Transfer(key, 2.0, 3.0, 1))
    before = time.time()
    of_call = await records(engine, "?call=f3", monkeypatch)
    assert (of_call.calls, of_call.transfers, of_call.steps) == ((call,), (), ())
    transfers = (await records(engine, "?call=f3&key=mine&key=mine+too", monkeypatch)).transfers
    assert [transfer.key for transfer in transfers] == ["mine", "mine too"]
    assert before <= of_call.now <= time.time()
    assert (await records(engine, "?call=f4", monkeypatch)).calls == ()
    since = await records(engine, "?since=5", monkeypatch)
    assert (since.calls, since.steps) == ((call,), (step,))
    assert (await records(engine, "?since=5.5", monkeypatch)).calls == ()


async def test_only_the_cluster_may_read_records(engine: FakeClient, monkeypatch: pytest.MonkeyPatch) -> None:
    assert (await ask("GET", engine, "/v1/chiasm/records", "wrong", monkeypatch)).status_code == 401


@pytest.mark.parametrize(("switch", "known"), [("1", ["f3"]), ("0", [])])
async def test_requests_are_watched_where_records_are_kept(
    memory: EngineMemory, monkeypatch: pytest.MonkeyPatch, switch: str, known: list[str]
) -> None:
    monkeypatch.setenv(RUNTIME_VARIABLE, "/nowhere")
    monkeypatch.setenv(RECORDS_VARIABLE, switch)
    app = FastAPI()

    @app.post(CHAT_PATH)
    async def chat() -> list[str]:
        return list(memory.answering)

    EngineRoutes().attach_router(app)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://engine") as client:
        assert (await client.post(CHAT_PATH, headers={"X-Request-Id": "f3"})).json() == known
