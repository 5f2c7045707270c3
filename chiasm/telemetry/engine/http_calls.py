"""The requests to generate that an engine's API server is answering: when each came, when its input was made of it, and
how far those got whose client left.

vLLM's statistics have none of that: they begin after a body was parsed, know of a request only when the engine core
takes it in, which it does between two steps, and say nothing of what is aborted. Imports no vLLM.
"""

import time
from typing import Any

from chiasm.api_paths import CHAT_PATH, COMPLETIONS_PATH
from chiasm.telemetry.engine.harmless import Harmless
from chiasm.telemetry.engine.memory import Answering, engine_memory
from chiasm.telemetry.engine.vllm_stats import aborted_call, call_of


class WatchCalls:
    """ASGI middleware inside an engine's application, whose `state.chiasm_engine` is vLLM's `AsyncLLM`."""

    def __init__(self, app: Any) -> None:
        self._app = app
        self._memory = engine_memory()
        self._harmless = Harmless("requests whose clients left")

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """One request (or the application's lifespan)."""
        named = dict(scope.get("headers", ())).get(b"x-request-id")
        if scope.get("path") not in (CHAT_PATH, COMPLETIONS_PATH) or named is None:
            await self._app(scope, receive, send)
            return
        call = named.decode("latin-1")
        answering = self._memory.answering[call] = Answering(arrived=time.time())
        scope["state"] = _RequestState(scope.get("state", {}), answering)

        async def watched() -> Any:
            message = await receive()
            # Said to whoever streams the answer or waits for it, who then aborts the request; and after a complete
            # answer, when the engine knows nothing of the request any more.
            if message["type"] == "http.disconnect":
                with self._harmless:  # else the engine would go on generating for nobody
                    self._keep_aborted(call, answering, scope["app"].state.chiasm_engine)
            return message

        try:
            await self._app(scope, watched, send)
        finally:
            if self._memory.answering.get(call) is answering:  # not if the gateway has asked anew
                del self._memory.answering[call]

    def _keep_aborted(self, call: str, answering: Answering, engine: Any) -> None:
        now = time.time()
        for state in engine.output_processor.request_states.values():
            if call_of(state.external_req_id) == call:
                record = aborted_call(state, answering, monotonic_origin=now - time.monotonic())
                self._memory.call_ended(record, now)


class _RequestState(dict[str, Any]):
    """What vLLM's route notes on its request (`request.state`): `request_metadata`, as soon as the input is made."""

    def __init__(self, state: dict[str, Any], answering: Answering) -> None:
        super().__init__(state)
        self._answering = answering

    def __setitem__(self, key: str, value: Any) -> None:
        if key == "request_metadata":
            self._answering.prepared = time.time()
        super().__setitem__(key, value)
