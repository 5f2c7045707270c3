"""What an engine answers when it is asked what it runs on, and what that can do at most. Loaded by engines alone.

Peaks are measured when somebody asks for them, in a process of its own on the engine's cores or card, and once: they
are kept on the node (`signature.peaks`). Not when the engine starts, which would make every first start longer by what
few ever ask for; and not while it works, since then both would be slower.
"""

import asyncio
import json
import os
import sys
from dataclasses import asdict
from functools import cache
from typing import TYPE_CHECKING, Any

import msgspec
from prometheus_client import REGISTRY

from chiasm.kept_files import kept_folder
from chiasm.machine import cpu_model, visible_gpus
from chiasm.telemetry.live.machine import Machine
from chiasm.telemetry.signature.peaks import Best, Conditions, kept_peaks

if TYPE_CHECKING:
    from fastapi import FastAPI
    from vllm.config import VllmConfig

TIMEOUT_S = 60.0  # measuring takes some 10 s, of which most is importing torch where the disk is slow

_UNFINISHED = ("vllm:num_requests_running", "vllm:num_requests_waiting")


class PeaksUnknown(RuntimeError):
    """They were not measured; the message says why, and what to do."""


class MachinePeaks:
    """The peaks of the machine that this engine runs on."""

    def __init__(self, conditions: Conditions) -> None:
        self._conditions = conditions
        self._measured: Best | None = None  # for a user without a home, in which nothing can be kept
        self._measuring = asyncio.Lock()

    def kept(self) -> Best | None:
        """What somebody has measured on this node."""
        return kept_peaks(self._conditions, kept_folder("peaks")) or self._measured

    async def measure(self) -> Best:
        """Measure them, unless somebody has.

        Raises:
            PeaksUnknown: the engine has work, or measuring failed.
        """
        async with self._measuring:
            if (kept := self.kept()) is not None:
                return kept
            if _unfinished():
                raise PeaksUnknown("the engine has work, and beside it less would be measured. Ask when it has none.")
            self._measured = await _measured_apart(self._conditions)
            return self._measured


def _unfinished() -> float:
    """Requests in this engine, as its metrics tell."""
    return sum(sample.value for metric in REGISTRY.collect() if metric.name in _UNFINISHED for sample in metric.samples)


async def _measured_apart(conditions: Conditions) -> Best:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "chiasm.telemetry.signature.peaks",
        json.dumps(asdict(conditions)),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(TIMEOUT_S):
            out, errors = await process.communicate()
    except TimeoutError as error:
        raise PeaksUnknown(f"measuring them took longer than {TIMEOUT_S:.0f} s") from error
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode:
        last = errors.decode(errors="replace").strip().splitlines()[-1:] or [f"exit code {process.returncode}"]
        raise PeaksUnknown(f"measuring them failed: {last[0]}")
    return msgspec.json.decode(out.splitlines()[-1], type=Best)


def machine_of(vllm_config: "VllmConfig") -> Machine:
    """What the engine with this configuration runs, and on what; without peaks."""
    import torch
    from vllm.utils.torch_utils import get_kv_cache_torch_dtype

    model, cache, parallel = vllm_config.model_config, vllm_config.cache_config, vllm_config.parallel_config
    cuda = vllm_config.device_config.device_type == "cuda"
    media = model.multimodal_config
    language = media is None or not media.mm_encoder_only
    return Machine(
        conditions=Conditions(
            device=vllm_config.device_config.device_type,
            processor=visible_gpus()[0] if cuda else cpu_model(),
            threads=0 if cuda else len(os.sched_getaffinity(0)),
            dtype=str(model.dtype).removeprefix("torch."),
            torch=str(torch.__version__),
        ),
        best=None,
        cards=parallel.world_size if cuda else 1,
        tower=media is not None and media.get_limit_per_prompt("image") > 0,
        language=language,
        value_bytes=model.dtype.itemsize,
        kv_value_bytes=get_kv_cache_torch_dtype(cache.cache_dtype, model.dtype).itemsize,
        kv_blocks=(cache.num_gpu_blocks or 1) - 1 if language else 0,  # vLLM keeps one for itself
        kv_block_tokens=cache.block_size,
        quantization=model.quantization,
        config=json.loads(model.hf_config.to_json_string(use_diff=False)),
    )


def add_machine_routes(app: "FastAPI") -> None:
    """`GET /v1/chiasm/machine` for a `Machine`, and `POST /v1/chiasm/peaks` for its `Best`, measured if need be.

    The latter answers 409 with the reason if it is not the time to measure, or cannot be done.
    """
    from fastapi import Response

    @cache
    def known() -> tuple[Machine, MachinePeaks]:
        machine = machine_of(app.state.chiasm_engine.vllm_config)
        return machine, MachinePeaks(machine.conditions)

    @app.get("/v1/chiasm/machine")
    async def answer_machine() -> Response:
        machine, peaks = known()
        return _json(msgspec.structs.replace(machine, best=peaks.kept()))

    @app.post("/v1/chiasm/peaks")
    async def answer_peaks() -> Response:
        try:
            return _json(await known()[1].measure())
        except PeaksUnknown as error:
            return _json({"reason": str(error)}, status=409)

    def _json(content: Any, status: int = 200) -> Response:
        return Response(msgspec.json.encode(content), status, media_type="application/json")
