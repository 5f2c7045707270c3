"""What torch and vLLM load of Chiasm through entry points (see pyproject.toml).

Imported inside `import torch` and inside engines, so nothing heavy may be imported at module level: neither torch, nor
vLLM, nor the rest of Chiasm.
"""

import hmac
import importlib.util
import os
import re
import sys
import time
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

if TYPE_CHECKING:
    from argparse import Namespace

    from fastapi import FastAPI
    from starlette.datastructures import State
    from vllm.engine.protocol import EngineClient

_torchvision_ops: Any = None  # the schemas live only as long as the library object that declared them


def repair_torch_companions() -> None:
    """Let CUDA builds of torch's companions stand beside a torch without CUDA. Entry point of group `torch.backends`.

    Package indexes that carry only CUDA builds bring them along with a CPU torch, and they then fail at import, because
    their extensions link against CUDA. torchvision needs no more than the schemas of two operators that no VLM calls.
    torchaudio and torchcodec do need their extensions, so they are treated as not installed, which their users
    (transformers, vLLM) provide for. Where torch has CUDA, or a companion is a CPU build or absent, nothing is done.
    """
    global _torchvision_ops
    import torch

    if torch.version.cuda:
        return
    if _torchvision_ops is None and _built_with_cuda("torchvision"):
        _torchvision_ops = torch.library.Library("torchvision", "FRAGMENT")
        _torchvision_ops.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        _torchvision_ops.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    for package in ("torchaudio", "torchcodec"):
        if package not in sys.modules and _built_with_cuda(package):
            sys.modules[package] = None  # type: ignore[assignment]  # Python's own way to say: not importable
            # transformers may have been imported before torch; then it remembers finding the package.
            remembering = getattr(sys.modules.get("transformers.utils.import_utils"), f"is_{package}_available", None)
            if remembering is not None:
                remembering.cache_clear()


def _built_with_cuda(package: str) -> bool:
    # Read, not imported: importing the package is what fails.
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        return False
    version = Path(spec.submodule_search_locations[0]) / "version.py"
    return version.is_file() and re.search(r"""__version__ = ['"][^'"]*\+cu\d""", version.read_text()) is not None


def register_models() -> None:
    """Entry point of group `vllm.general_plugins`: what the halves of a split model need of some models.

    Called in each process of every vLLM on this machine, so it acts only in engines that Chiasm started.
    """
    from chiasm.wire.settings import RUNTIME_VARIABLE

    if RUNTIME_VARIABLE in os.environ:
        replace_models()


def replace_models() -> None:
    """Put our classes in the place of vLLM's, in this process."""
    from vllm import ModelRegistry

    from chiasm.families import COUNTED, DEEPSTACK

    for module, architectures in (("decoder.deepstack", DEEPSTACK), ("chiasm.counted_images", COUNTED)):
        for architecture in architectures:
            ModelRegistry.register_model(architecture, f"{module}:{architecture}")


class EngineReport:
    """Mixed into an engine's workers by `--worker-extension-cls`: says what they hold and what they have done."""

    def chiasm_report(self) -> dict[str, dict[str, int]]:
        """`weights`: bytes of parameters by component, the first part of their name, e.g. `{"visual": 1216512}`.

        `connector`: what the worker's half of the embedding connector has counted; empty where there is none.
        `limits`: `step_tokens`, the most that a step computes.
        """
        from vllm.distributed.ec_transfer import get_ec_transfer, has_ec_transfer

        weights: dict[str, int] = {}
        for name, parameter in self.model_runner.get_model().named_parameters():  # type: ignore[attr-defined]
            component = name.split(".")[0]
            weights[component] = weights.get(component, 0) + parameter.numel() * parameter.element_size()
        return {
            "weights": weights,
            "connector": get_ec_transfer().counters() if has_ec_transfer() else {},
            "limits": {"step_tokens": self.scheduler_config.max_num_batched_tokens},  # type: ignore[attr-defined]
        }


class RequireToken:
    """ASGI middleware for every engine (`--middleware`): no route but `/health` answers without the cluster's token.

    vLLM's own `--api-key` leaves some routes open, `/invocations` among them, which takes whole chat requests.
    """

    def __init__(self, app: Any) -> None:
        self._app = app
        self._expected = f"Bearer {os.environ['VLLM_API_KEY']}".encode()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """One request (or the application's lifespan)."""
        given = dict(scope.get("headers", ())).get(b"authorization", b"")
        if scope["type"] == "lifespan" or scope.get("path") == "/health" or hmac.compare_digest(given, self._expected):
            await self._app(scope, receive, send)
        elif scope["type"] == "http":
            await send({"type": "http.response.start", "status": 401, "headers": [(b"content-type", b"text/plain")]})
            await send({"type": "http.response.body", "body": b"This engine answers only its cluster's gateway."})
        # anything else, a websocket for instance, is closed by the server when nobody accepts it


# From the quick step of a GPU to a CPU's long ones, close enough for percentiles.
_PAUSE_BUCKETS_MS = (
    1,
    2,
    5,
    10,
    15,
    20,
    30,
    40,
    50,
    60,
    80,
    100,
    120,
    150,
    200,
    300,
    500,
    1000,
    2000,
    5000,
    10_000,
    30_000,
)


@cache
def _pauses() -> Any:
    """The histogram of pauses, one in a process: in the registry that vLLM's `/metrics` shows."""
    from prometheus_client import Histogram

    about = "From when an engine was to stand still, because an image came, until it did"
    return Histogram("chiasm_pause_seconds", about, buckets=[ms / 1000 for ms in _PAUSE_BUCKETS_MS])


class EngineRoutes:
    """Routes that every engine's API server gets, below vLLM's authenticated prefix `/v1`."""

    name = "chiasm"
    required_tasks = None

    def attach_router(self, app: "FastAPI") -> None:
        """Add `GET` for `report` (one a rank), `transfers/{request}`, `records`, and `POST` for `pause` and `resume`.

        `records` are those of a `call`, with the transfers of each `key`; or everything `since` then (unix seconds;
        without, all that is remembered).

        A paused engine generates nothing and keeps everything: what ran goes on from its KV cache, what came meanwhile
        is queued. Either may be asked twice, but no resume may overtake its pause: vLLM answers a pause once the engine
        is idle, so it would go unanswered for as long as there is work. `since` (unix seconds, of this machine) is when
        a pause was wanted; how long it took is in vLLM's own `/metrics`, as `chiasm_pause_seconds`.
        """
        import msgspec
        from fastapi import Query, Response

        from chiasm.telemetry.engine.http_calls import WatchCalls
        from chiasm.telemetry.engine.memory import engine_memory, recording
        from chiasm.telemetry.live.engine_machine import add_machine_routes
        from chiasm.wire.failures import read_failures

        if recording():
            app.add_middleware(WatchCalls)
        add_machine_routes(app)

        @app.get("/v1/chiasm/report")
        async def report() -> list[dict[str, dict[str, int]]]:
            reports: list[dict[str, dict[str, int]]] = await app.state.chiasm_engine.collective_rpc("chiasm_report")
            return reports

        @app.get("/v1/chiasm/transfers/{request}")
        async def transfers(request: str) -> dict[str, Any]:
            return {"request": request, "failed": read_failures(request)}

        @app.get("/v1/chiasm/records")
        async def records(
            call: str | None = None, key: Annotated[tuple[str, ...], Query()] = (), since: float = 0.0
        ) -> Response:
            now, memory = time.time(), engine_memory()
            found = memory.since(since, now) if call is None else memory.of_call(call, key, now)
            return Response(msgspec.json.encode(found), media_type="application/json")

        @app.post("/v1/chiasm/pause")
        async def pause(since: float) -> dict[str, bool]:
            # Both are needed to keep the cache: by default vLLM aborts what runs, and frees its KV blocks.
            await app.state.chiasm_engine.pause_generation(mode="keep", clear_cache=False)
            now = time.time()
            _pauses().observe(now - since)
            engine_memory().stood_still(since, now)
            return {"paused": True}

        @app.post("/v1/chiasm/resume")
        async def resume() -> dict[str, bool]:
            engine_memory().went_on(time.time())
            await app.state.chiasm_engine.resume_generation()
            return {"paused": False}

    async def init_state(self, engine_client: "EngineClient | None", state: "State", args: "Namespace") -> None:
        """Remember the engine for the routes."""
        state.chiasm_engine = engine_client
