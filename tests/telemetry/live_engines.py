"""Engines that are played: machines, and records as engines would have kept them."""

from typing import Any

from bench.phase_sizes import CONFIGS
from chiasm.telemetry.live.machine import Machine
from chiasm.telemetry.records import EngineCall, Step
from chiasm.telemetry.signature.peaks import Best, Conditions, Peaks

PEAKS = Peaks(flops_per_s=1e12, copy_bytes_per_s=8e9, read_bytes_per_s=1e10)  # the balance is 100
SIZES = CONFIGS["qwen2.5-vl-3b"]
CONFIG = SIZES | {"model_type": "qwen2_5_vl", "vision_config": SIZES["vision_config"] | {"hidden_act": "silu"}}
HERE = Conditions("cpu", "A Processor", 2, "bfloat16", "2.13.0")


def machine(**changes: Any) -> Machine:
    """A decoder's, unless changed."""
    usual: dict[str, Any] = {
        "conditions": HERE,
        "best": Best(PEAKS, {}),
        "cards": 1,
        "tower": False,
        "language": True,
        "value_bytes": 2,
        "kv_value_bytes": 2,
        "kv_blocks": 100,
        "kv_block_tokens": 16,
        "quantization": None,
        "config": CONFIG,
    }
    return Machine(**usual | changes)


def encoder_machine(**changes: Any) -> Machine:
    return machine(tower=True, language=False, kv_blocks=0, **changes)


def call(
    scheduled: float, first: float, last: float, prompt: int = 100, output: int = 11, cached: int = 0, name: str = "a"
) -> EngineCall:
    return EngineCall(name, scheduled - 0.5, scheduled - 0.1, scheduled, first, last, prompt, cached, output, 0, "stop")


def step(ended: float, **counts: Any) -> Step:
    """One in which nothing was done, unless `counts` says so."""
    nothing: dict[str, Any] = {
        "prompt_requests": 0,
        "prompt_tokens": 0,
        "streams": 0,
        "stream_tokens": 0,
        "images": 0,
        "image_tokens": 0,
        "running": 0,
        "waiting": 0,
        "kv_part": 0.0,
    }
    return Step(ended, 0.0, **nothing | counts)


def prompt(ended: float, tokens: int, **counts: Any) -> Step:
    return step(ended, prompt_requests=1, prompt_tokens=tokens, **counts)


def streams(ended: float, count: int, **counts: Any) -> Step:
    return step(ended, streams=count, stream_tokens=count, **counts)
