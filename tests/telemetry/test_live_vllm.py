"""Our count of a step against vLLM's own (`--enable-mfu-metrics`), and what is read from vLLM's configuration.

vLLM is imported; no engine starts. Its counters know the language model alone: the tower has no like of them.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pytest

from chiasm.models.builtin import model_folder
from chiasm.telemetry.live.engine_machine import machine_of
from chiasm.telemetry.signature.shapes import Language, language_of, tower_of
from chiasm.telemetry.signature.work import decode_work, language_work, prefill_work

pytestmark = [pytest.mark.engine, pytest.mark.timeout(600), pytest.mark.filterwarnings("default")]

VALUE_BYTES = 2
Batch = Sequence[tuple[int, int, bool]]  # tokens that are computed, tokens that these end at, whether of a prompt


def engine_config(**changes: Any) -> Any:
    from vllm.engine.arg_utils import EngineArgs

    return EngineArgs(model=str(model_folder()), dtype="bfloat16", max_model_len=2048, **changes).create_engine_config()


@dataclass(frozen=True)
class Counted:
    """What vLLM counts of a step."""

    flops: dict[str, int]
    read: dict[str, int]
    written: dict[str, int]

    @property
    def attention_flops(self) -> int:
        return self.flops["attn.attn_qk"] + self.flops["attn.attn_av"]

    @property
    def linear_flops(self) -> int:
        return sum(self.flops.values()) - self.attention_flops

    @property
    def weight_bytes(self) -> int:
        return sum(nbytes for name, nbytes in self.read.items() if "weight" in name)


class Vllm:
    """vLLM's counters of one model."""

    def __init__(self) -> None:
        from vllm.v1.metrics.perf import ModelMetrics

        self.config = engine_config(limit_mm_per_prompt={"image": 0, "video": 0})
        self._metrics = ModelMetrics(self.config)

    def count(self, batch: Batch) -> Counted:
        from vllm.v1.metrics.perf import ExecutionContext

        step = ExecutionContext()
        for one in batch:
            step.add(*one)
        metrics = self._metrics
        return Counted(
            metrics.get_num_flops_breakdown(step),
            metrics.get_read_bytes_breakdown(step),
            metrics.get_write_bytes_breakdown(step),
        )


@pytest.fixture(scope="module")
def vllm() -> Vllm:
    return Vllm()


@pytest.fixture(scope="module")
def language(vllm: Vllm) -> Language:
    return language_of(machine_of(vllm.config).config)


CONTEXTS = [51, 300, 7]


def test_a_decode_step_has_the_flops_that_vllm_counts(vllm: Vllm, language: Language) -> None:
    counted, work = vllm.count([(1, context, False) for context in CONTEXTS]), decode_work(language, CONTEXTS, 2)
    assert (work.linear_flops, work.attention_flops) == (counted.linear_flops, counted.attention_flops)


def test_a_prompts_tokens_meet_those_before_them_and_in_vllms_count_all(vllm: Vllm, language: Language) -> None:
    counted, work = vllm.count([(120, 120, True)]), prefill_work(language, [120], 2)
    assert work.linear_flops == counted.linear_flops
    assert counted.attention_flops == work.attention_flops * 2 * 120 / (120 + 1)


def test_so_do_those_of_a_chunk(vllm: Vllm, language: Language) -> None:
    """40 tokens after 80, beside two streams."""
    counted = vllm.count([(40, 120, True), (1, 51, False), (1, 300, False)])
    pairs = 40 * 80 + 40 * 41 // 2
    work = language_work(
        language, tokens=42, answers=3, pairs=pairs + 351, kv_tokens=471, value_bytes=2, kv_value_bytes=2
    )
    assert work.linear_flops == counted.linear_flops
    assert counted.attention_flops / work.attention_flops == pytest.approx((40 * 120 + 351) / (pairs + 351))


@pytest.mark.parametrize("batch", [[(1, 51, False)], [(120, 120, True)], [(40, 120, True), (1, 51, False)]])
def test_weights_are_read_once_by_both(vllm: Vllm, language: Language, batch: Batch) -> None:
    assert vllm.count(batch).weight_bytes == language.parameters * VALUE_BYTES


def test_a_decode_step_reads_the_cache_that_vllm_counts_but_not_the_token_that_it_has_just_made(
    vllm: Vllm, language: Language
) -> None:
    counted = vllm.count([(1, context, False) for context in CONTEXTS])
    values = language.layers * language.heads * language.head_size
    queries = len(CONTEXTS) * values * VALUE_BYTES  # which vLLM counts too: they go from one kernel to the next
    cache = counted.read["attn.attn_input"] - queries + counted.written["attn.kv_cache"]
    twice = len(CONTEXTS) * language.kv_values * VALUE_BYTES
    assert decode_work(language, CONTEXTS, VALUE_BYTES).kv_bytes == cache - twice


def test_what_passes_from_kernel_to_kernel_is_counted_by_vllm_alone(vllm: Vllm, language: Language) -> None:
    """So a phase comes nearer to the bandwidth's peak there, and is less intense: most of all a prefill."""
    counted, work = vllm.count([(1024, 1024, True)]), prefill_work(language, [1024], VALUE_BYTES)
    assert sum(counted.read.values()) + sum(counted.written.values()) > 2 * work.nbytes


def test_an_engine_knows_what_it_holds_and_in_which_format(vllm: Vllm) -> None:
    decoder = machine_of(vllm.config)
    assert (decoder.tower, decoder.language) == (False, True)
    assert (decoder.value_bytes, decoder.kv_value_bytes, decoder.conditions.dtype) == (2, 2, "bfloat16")
    assert (decoder.quantization, decoder.cards, decoder.conditions.device) == (None, 1, "cpu")
    assert decoder.kv_block_tokens == 128
    transfer = {"ec_connector": "ECExampleConnector", "ec_role": "ec_producer"}
    encoder = machine_of(engine_config(ec_transfer_config=transfer))
    assert (encoder.tower, encoder.language, encoder.kv_blocks) == (True, False, 0)
    whole = machine_of(engine_config())
    assert (whole.tower, whole.language) == (True, True)
    for machine in (decoder, encoder, whole):
        assert tower_of(machine.config).layers == language_of(machine.config).layers == 5
