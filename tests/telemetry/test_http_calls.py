"""When an engine's HTTP requests came and were prepared, as the application around its routes notes it."""

import time
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from starlette.requests import Request

from chiasm.api_paths import CHAT_PATH, COMPLETIONS_PATH
from chiasm.telemetry.engine.http_calls import WatchCalls
from chiasm.telemetry.engine.memory import Answering, EngineMemory, engine_memory


@pytest.fixture
def memory() -> Iterator[EngineMemory]:
    engine_memory.cache_clear()
    yield engine_memory()
    engine_memory.cache_clear()


class Route:
    """The application inside: it notes what is known of it while it answers."""

    def __init__(self, memory: EngineMemory, *, fails: bool = False) -> None:
        self._memory = memory
        self._fails = fails
        self.known: dict[str, Answering] = {}
        self.started = 0.0

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.started = time.time()
        self.known = dict(self._memory.answering)
        if self._fails:
            raise RuntimeError("as routes do")
        if self.known:
            request = Request(scope)
            request.state.other = request.state.request_metadata = "as vLLM's routes do"
            assert request.state.given == request.state.request_metadata[:2]


async def ask(route: Any, path: str, headers: list[tuple[bytes, bytes]], kind: str = "http") -> None:
    app = SimpleNamespace(state=SimpleNamespace(chiasm_engine=None))
    scope = {"type": kind, "path": path, "headers": headers, "app": app, "state": {"given": "as"}}
    await WatchCalls(route)(scope, None, None)


@pytest.mark.parametrize("path", [CHAT_PATH, COMPLETIONS_PATH])
async def test_it_is_known_when_a_request_came_and_when_its_input_was_made(memory: EngineMemory, path: str) -> None:
    route = Route(memory)
    before = time.time()
    await ask(route, path, [(b"host", b"h"), (b"x-request-id", b"f3.1")])
    [(call, answering)] = route.known.items()
    assert call == "f3.1"
    assert answering.prepared is not None
    assert before <= answering.arrived <= route.started <= answering.prepared <= time.time()


@pytest.mark.parametrize("fails", [False, True])
async def test_a_request_is_forgotten_when_it_is_answered_or_that_fails(memory: EngineMemory, fails: bool) -> None:
    try:
        await ask(Route(memory, fails=fails), CHAT_PATH, [(b"x-request-id", b"f3")])
    except RuntimeError:
        assert fails
    assert memory.answering == {}


async def test_a_second_attempt_is_not_forgotten_with_the_first(memory: EngineMemory) -> None:
    second = Answering(time.time())

    async def route(_scope: Any, _receive: Any, _send: Any) -> None:
        memory.answering["f3"] = second

    await ask(route, CHAT_PATH, [(b"x-request-id", b"f3")])
    assert memory.answering == {"f3": second}


@pytest.mark.parametrize(
    ("path", "headers", "kind"),
    [
        (CHAT_PATH, [], "http"),
        ("/detokenize", [(b"x-request-id", b"f3")], "http"),
        ("", [], "lifespan"),
    ],
)
async def test_what_is_no_request_to_generate_of_ours_passes(
    memory: EngineMemory, path: str, headers: list[tuple[bytes, bytes]], kind: str
) -> None:
    route = Route(memory)
    await ask(route, path, headers, kind)
    assert route.started > 0
    assert route.known == {}
