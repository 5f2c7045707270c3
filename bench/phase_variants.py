"""Other ways to run the same model: its layers compiled, and the tower's feed-forward as wide as a card likes it.

What a model gains by them is what an engine's own kernels may gain. Imports torch.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn
from torch._inductor import config as inductor_config

from bench.phase_kernels import divide
from bench.phase_points import Mark, Phases, measure
from bench.phase_sizes import Plan
from chiasm.telemetry.signature.roofline import Point

ALIGNMENT = 64  # values: matrix kernels of NVIDIA's cards want rows of a multiple of 16 bytes, and whole tiles


@dataclass(frozen=True)
class Variant:
    """A way to run some of the phases."""

    name: str
    phases: tuple[str, ...]
    apply: Callable[[Any], AbstractContextManager[None]]
    compiled: bool


@contextmanager
def compiled(model: Any, backend: str = "inductor") -> Iterator[None]:
    """Fuse what lies between the matrix products of each layer.

    The layers of the tower are the same code, and those of the language model too, so that only a few are compiled.
    Inductor would also widen matrices by itself, which is another thing than fusing, and `aligned` is there for it.
    """
    torch._dynamo.reset()  # what was compiled before counts against the number of shapes that it takes
    layers = [*model.model.visual.blocks, *model.model.language_model.layers]
    attentions = [layer.self_attn for layer in model.model.language_model.layers]
    numbers = [attention.layer_idx for attention in attentions]
    for attention in attentions:
        attention.layer_idx = 0  # a constant of the code; `LayerKeys` asks for none
    for layer in layers:
        layer.compile(backend=backend, dynamic=False)
    try:
        with inductor_config.patch(shape_padding=False):
            yield
    finally:
        for layer in layers:
            layer._compiled_call_impl = None
        for attention, number in zip(attentions, numbers, strict=True):
            attention.layer_idx = number


@contextmanager
def aligned(model: Any) -> Iterator[None]:
    """Widen the tower's feed-forward layers with zeros to a multiple of `ALIGNMENT`, which changes no result.

    Qwen2.5-VL's is 3,420 wide: rows of 6,840 bytes in bfloat16, no multiple of 16.
    """
    before = []
    for block in model.model.visual.blocks:
        mlp = block.mlp
        before.append((mlp, mlp.gate_proj, mlp.up_proj, mlp.down_proj))
        missing = -mlp.down_proj.in_features % ALIGNMENT
        mlp.gate_proj, mlp.up_proj = _widened(mlp.gate_proj, rows=missing), _widened(mlp.up_proj, rows=missing)
        mlp.down_proj = _widened(mlp.down_proj, columns=missing)
    try:
        yield
    finally:
        for mlp, gate, up, down in before:
            mlp.gate_proj, mlp.up_proj, mlp.down_proj = gate, up, down


def _widened(linear: nn.Linear, rows: int = 0, columns: int = 0) -> nn.Linear:
    wide = nn.Linear(linear.in_features + columns, linear.out_features + rows, device="meta", dtype=linear.weight.dtype)
    wide.weight = nn.Parameter(nn.functional.pad(linear.weight, (0, columns, 0, rows)))
    wide.bias = nn.Parameter(nn.functional.pad(linear.bias, (0, rows)))
    return wide


@contextmanager
def aligned_and_compiled(model: Any) -> Iterator[None]:
    """Both."""
    with aligned(model), compiled(model):
        yield


PLAIN = Variant("", ("encode", "prefill", "decode"), nullcontext, compiled=False)
VARIANTS = (
    Variant("aligned", ("encode",), aligned, compiled=False),
    Variant("compiled", ("encode", "prefill", "decode"), compiled, compiled=True),
    Variant("aligned, compiled", ("encode",), aligned_and_compiled, compiled=True),
)


def timed(variant: Variant, phases: Phases, plan: Plan, mark: Mark, note: Callable[[str], None]) -> Iterator[Point]:
    """The plan's runs that the variant is for. What goes wrong in a variant ends it, and is noted."""
    try:
        with variant.apply(phases.model):
            for run in phases.runs(plan):
                if run.phase in variant.phases:
                    yield measure(run, phases.device, plan.seconds, mark, note, variant.name)
    except Exception as error:  # a compiler's troubles have many names, and the plain model is measured all the same
        if variant is PLAIN:
            raise
        note(f"not measured {variant.name}: {_told(error)}")


def divided(
    points: list[Point], variant: Variant, phases: Phases, plan: Plan, note: Callable[[str], None]
) -> list[Point]:
    """The points, those of the variant and the plan with what their time goes to; without, where that fails."""
    by_run = {(point.phase, point.label, point.variant): point for point in points}
    try:
        with variant.apply(phases.model):
            for run in phases.runs(plan):
                key = (run.phase, run.label, variant.name)
                if key in by_run:
                    found = divide(run.call, phases.device, by_run[key].seconds, count_bytes=not variant.compiled)
                    by_run[key] = replace(by_run[key], division=found)
    except Exception as error:  # the profiler's or the compiler's: the times stand without
        note(f"not known what the time goes to, {variant.name or 'plain'}: {_told(error)}")
    return list(by_run.values())


def _told(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"
