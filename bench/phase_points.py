"""What `bench.phases` runs: images to encode, prompts to compute, batches to give a token. Each becomes a point."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import torch

from bench.phase_network import KeptKeys, Layout, language_step
from bench.phase_sizes import Plan, decode_label, encode_label, prefill_label, span_name
from bench.phase_timing import Call, captured, time_rounds
from chiasm.telemetry.signature.roofline import Point
from chiasm.telemetry.signature.shapes import Language, Tower, language_of, tower_of
from chiasm.telemetry.signature.work import Grid, Work, decode_work, encode_work, image_tokens, prefill_work

Mark = Callable[[str], AbstractContextManager[None]]


@dataclass(frozen=True)
class Run:
    """One thing to run: what it is, what it has to do, and the call that does it."""

    phase: str
    label: str
    units: int
    work: Work
    call: Call


class Phases:
    """The phases of one model on one device."""

    def __init__(self, model: Any, device: str, dtype: torch.dtype) -> None:
        config = model.config.to_dict()
        self.model = model
        self.device = device
        self._dtype = dtype
        self._value_bytes = dtype.itemsize
        self._patch = config["vision_config"]["patch_size"]  # pixels a side
        self.tower: Tower = tower_of(config)
        self.language: Language = language_of(config)

    def runs(self, plan: Plan) -> Iterator[Run]:
        """All of the plan's, one after the other, so that only one takes memory at a time."""
        for side, count in plan.images:
            yield self._encode(side, count)
        for tokens in plan.prompts:
            yield self._prefill(tokens)
        for streams in plan.batches:
            yield self._decode(streams, plan.context)

    def _encode(self, side: int, count: int) -> Run:
        grids: list[Grid] = [(1, side // self._patch, side // self._patch)] * count
        layout = Layout(self.model.model.visual, grids)
        patches = sum(height * width for _, height, width in grids)
        pixels = self._random(patches, self.tower.patch.inputs)
        tokens = image_tokens(self.tower, grids)
        work = encode_work(self.tower, grids, self._value_bytes)
        return Run("encode", encode_label(side, count), tokens, work, lambda: layout.encode(pixels))

    def _prefill(self, tokens: int) -> Run:
        kept = KeptKeys(self.model.config.text_config, 1, tokens, self.device, self._dtype)
        embeddings = self._random(1, tokens, self.language.width)
        work = prefill_work(self.language, [tokens], self._value_bytes)
        return Run("prefill", prefill_label(tokens), tokens, work, lambda: language_step(self.model, embeddings, kept))

    def _decode(self, streams: int, context: int) -> Run:
        model = self.model
        config = model.config.text_config
        kept = KeptKeys(config, streams, context, self.device, self._dtype, position=context - 1)
        token = torch.zeros(streams, 1, dtype=torch.long, device=self.device)

        def step() -> None:
            embeddings = model.model.language_model.embed_tokens(token)
            token.copy_(language_step(model, embeddings, kept).argmax(-1, keepdim=True))

        work = decode_work(self.language, [context] * streams, self._value_bytes)
        return Run("decode", decode_label(streams, context), streams, work, step)

    def _random(self, *shape: int) -> torch.Tensor:
        return torch.randn(*shape, device=self.device, dtype=self._dtype)


def measure(run: Run, device: str, seconds: float, mark: Mark, note: Callable[[str], None], variant: str = "") -> Point:
    """Time it: on a GPU as a CUDA graph, and kernel by kernel beside that; where there can be no graph, so only.

    `mark` surrounds what the point's counters, which it is still without, are to be taken of.
    """
    call, how = run.call, "kernel by kernel"
    if device == "cuda":
        try:
            call, how = captured(run.call), "CUDA graph"
        except RuntimeError as error:
            torch.cuda.synchronize()
            note(f"{run.phase}, {run.label}: no CUDA graph: {str(error).splitlines()[0]}")
    with mark(span_name(run.phase, run.label, variant)):
        timing = time_rounds(call, device, seconds)
    eager = time_rounds(run.call, device, seconds / 3).median if how == "CUDA graph" else None
    return Point(
        phase=run.phase,
        label=run.label,
        how=how,
        units=run.units,
        work=run.work,
        seconds=timing.median,
        spread=(timing.quickest, timing.slowest),
        rounds=timing.rounds,
        eager_seconds=eager,
        variant=variant,
    )
