"""Compiled and aligned models compute what the plain one does, and what their time goes to is told apart."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch._dynamo.testing import CompileCounter
from torch._inductor import config as inductor_config
from torch.nn.attention import varlen

from bench.phase_kernels import _BytesOfTheRest, divide
from bench.phase_network import random_model, use_flash_attention
from bench.phase_points import Phases, Run
from bench.phase_sizes import ON_CPU_QUICK
from bench.phase_variants import ALIGNMENT, PLAIN, VARIANTS, Variant, aligned, compiled, divided, timed
from chiasm.models.tiny import Family, _config
from chiasm.telemetry.signature.roofline import Point

pytestmark = pytest.mark.slow

PLAN = replace(
    ON_CPU_QUICK, images=((224, 1),), image=(224, 1), prompts=(16,), prompt=16, batches=(2,), batch=2, context=20,
    seconds=0.0,
)  # fmt: skip


@pytest.fixture
def phases() -> Iterator[Phases]:
    config = _config(Family.QWEN2_5_VL)
    config.vision_config.depth = 4
    config.vision_config.fullatt_block_indexes = [3]
    config.vision_config.intermediate_size = 100
    with torch.no_grad():
        yield Phases(random_model(config, "cpu", torch.float32), "cpu", torch.float32)


def unmarked(name: str) -> AbstractContextManager[None]:
    return nullcontext()


def run_of(phases: Phases, phase: str) -> Run:
    return next(run for run in phases.runs(PLAN) if run.phase == phase)


def embeddings(phases: Phases) -> Any:
    return run_of(phases, "encode").call()


def test_an_aligned_tower_computes_the_same_and_is_put_back(phases: Phases) -> None:
    mlp = phases.model.model.visual.blocks[0].mlp
    narrow = mlp.down_proj
    assert narrow.in_features % ALIGNMENT
    torch.manual_seed(5)
    expected = embeddings(phases)
    with aligned(phases.model):
        assert mlp.down_proj.in_features % ALIGNMENT == 0
        torch.manual_seed(5)
        torch.testing.assert_close(embeddings(phases), expected, rtol=1e-5, atol=1e-5)
    assert mlp.down_proj is narrow


def test_a_layer_is_compiled_once_for_all_that_are_like_it(phases: Phases, monkeypatch: pytest.MonkeyPatch) -> None:
    def attention(
        query: torch.Tensor, key: torch.Tensor, value: torch.Tensor,
        ends: torch.Tensor, _: torch.Tensor, max_query: int, max_key: int,
    ) -> torch.Tensor:  # fmt: skip
        return query + value / max_query  # torch's kernel is for GPUs only

    monkeypatch.setattr(varlen, "varlen_attn", attention)
    use_flash_attention(phases.model.model.visual)
    torch.manual_seed(5)
    expected = embeddings(phases)
    counter = CompileCounter()
    counted = {}
    numbers = [layer.self_attn.layer_idx for layer in phases.model.model.language_model.layers]
    pads = inductor_config.shape_padding
    with compiled(phases.model, backend=counter):
        assert not inductor_config.shape_padding
        for run in phases.runs(PLAN):
            before = counter.frame_count
            run.call()
            counted[run.phase] = counter.frame_count - before
        torch.manual_seed(5)
        torch.testing.assert_close(embeddings(phases), expected, rtol=1e-5, atol=1e-5)
    assert counted == {"encode": 2, "prefill": 1, "decode": 1}  # of the tower, layers with windows and one without
    assert [layer.self_attn.layer_idx for layer in phases.model.model.language_model.layers] == numbers
    assert inductor_config.shape_padding == pads
    count = counter.frame_count
    embeddings(phases)
    assert counter.frame_count == count


def test_products_attention_and_the_rest_make_the_time(phases: Phases) -> None:
    run = run_of(phases, "prefill")
    found = divide(run.call, "cpu", 10.0, count_bytes=True)
    assert 0 < found.product_seconds < 10
    assert 0 < found.attention_seconds < 10
    assert found.product_seconds + found.attention_seconds + found.rest_seconds == pytest.approx(10.0)


A, B = torch.zeros(100, 50), torch.zeros(100, 50)
ROWS = torch.zeros(7, dtype=torch.long)
ONE = torch.zeros(())


@pytest.mark.parametrize(
    ("call", "kernels", "values"),
    [
        (lambda: A + B, 1, 15_000),
        (lambda: A[:10] + 1, 1, 1_000),  # of a slice only what is in it
        (lambda: A[:10].expand(2, 10, 50) + 1, 1, 500 + 1_000),  # read once, though it is seen twice
        (lambda: A[:1].expand(100, 50) + B, 1, 50 + 10_000),
        (lambda: A[:, :1].expand(100, 50) + B, 1, 100 + 10_000),
        (lambda: ONE.expand(100, 50) + B, 1, 1 + 10_000),
        (lambda: A[:0] + 1, 1, 0),
        (lambda: A.view(-1).relu_(), 1, 10_000),  # in place, and reads what it overwrites
        (lambda: A.add_(B), 1, 15_000),
        (lambda: A.copy_(B), 1, 10_000),
        (lambda: A.copy_(B[:1]), 1, 5_000 + 50),
        (lambda: A[:10].fill_(1.0), 1, 500),
        (A.zero_, 1, 5_000),
        (lambda: torch.add(A, 1, out=B), 1, 10_000),
        (lambda: torch.nn.functional.embedding(ROWS, A), 1, 700 + 7 * 2),  # of the table what it returns; 8-byte places
        (lambda: A[ROWS], 1, 700 + 7 * 2),
        (lambda: A @ B.T, 0, 0),  # a product, and a view
        (lambda: torch.empty(10), 0, 0),
    ],
)
def test_the_rest_is_counted_operation_by_operation(call: Callable[[], object], kernels: int, values: int) -> None:
    with _BytesOfTheRest() as moved:
        call()
    assert (moved.kernels, moved.nbytes) == (kernels, 4 * values)


def test_bytes_of_compiled_code_are_not_counted() -> None:
    found = divide(lambda: torch.zeros(10) + 1, "cpu", 1.0, count_bytes=False)
    assert found.rest_bytes is None
    assert found.rest_kernels is None


def test_every_point_of_a_variant_is_measured_and_divided(phases: Phases) -> None:
    notes: list[str] = []
    points = [
        point for variant in (PLAIN, VARIANTS[0]) for point in timed(variant, phases, PLAN, unmarked, notes.append)
    ]
    assert [(point.phase, point.variant) for point in points] == [
        ("encode", ""), ("prefill", ""), ("decode", ""), ("encode", "aligned"),
    ]  # fmt: skip
    for variant in (PLAIN, VARIANTS[0]):
        points = divided(points, variant, phases, PLAN, notes.append)
    assert all(point.division is not None for point in points)
    assert not notes


def test_a_variant_that_fails_is_noted_and_the_others_stand(phases: Phases) -> None:
    def fail(model: Any) -> AbstractContextManager[None]:
        raise ValueError("no compiler here\nand more")

    broken = Variant("broken", ("encode",), fail, compiled=True)
    notes: list[str] = []
    points: list[Point] = list(timed(broken, phases, PLAN, unmarked, notes.append))
    assert points == []
    assert notes == ["not measured broken: ValueError: no compiler here"]
