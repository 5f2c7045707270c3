"""What a configuration and metrics tell of the KV cache."""

import dataclasses
from typing import Any

import pytest

from bench.diagnosis.kv import kv_table
from bench.diagnosis.metrics import KvCache
from bench.diagnosis.plan import Rung
from bench.diagnosis.probing import KvReading, SizeSeen

CONFIG = {
    "dtype": "bfloat16",
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "hidden_size": 64,
    "num_hidden_layers": 3,
}
TOKEN_BYTES = 2 * 3 * 2 * 16 * 2  # keys and values, layers, heads, their size, bytes of a value
SEEN = SizeSeen(Rung((448, 448), 1, 256), prompt_tokens=270, kv=KvReading(share=0.18, tokens=280))
CACHE = KvCache(1600, 16, even=True, layout="auto", value_bytes=2, token_bytes=None)


def test_a_request_is_counted_in_whole_blocks() -> None:
    table = kv_table([SEEN], CONFIG, CACHE, answer_tokens=128)
    [row] = table.rows
    assert table.token_bytes == TOKEN_BYTES
    assert "on all cards together" in table.source
    assert row.picture_bytes == 256 * TOKEN_BYTES
    assert row.request_bytes == 400 * TOKEN_BYTES  # 270 + 127, in 25 blocks
    assert row.at_once == 4
    assert (row.cached_tokens, row.expected_tokens) == (288, 280)


def test_where_tokens_take_different_room_what_was_seen_says_nothing() -> None:
    [row] = kv_table([SEEN], CONFIG, dataclasses.replace(CACHE, even=False), 128).rows
    assert (row.cached_tokens, row.expected_tokens) == (None, None)
    assert row.at_once == 4


def test_bytes_come_from_the_cache_where_there_is_no_configuration() -> None:
    table = kv_table([SEEN], None, dataclasses.replace(CACHE, token_bytes=1024.0), 128)
    assert table.token_bytes == 1024
    assert "on each card" in table.source
    assert kv_table([SEEN], CONFIG, dataclasses.replace(CACHE, value_bytes=1), 128).token_bytes == TOKEN_BYTES / 2


def test_models_in_float32_are_served_in_16_bits() -> None:
    assert kv_table([SEEN], {**CONFIG, "dtype": "float32"}, None, 128).token_bytes == TOKEN_BYTES


@pytest.mark.parametrize(
    ("config", "cache", "why"),
    [
        ({"text_config": {**CONFIG, "kv_lora_rank": 512}}, CACHE, "MLA"),
        (CONFIG, dataclasses.replace(CACHE, layout="nvfp4", value_bytes=None), "layout nvfp4"),
        ({"model_type": "odd"}, None, "not the usual fields"),
        (None, None, "--config"),
    ],
)
def test_what_nothing_tells_is_not_made_up(config: dict[str, Any] | None, cache: KvCache | None, why: str) -> None:
    table = kv_table([SEEN], config, cache, 128)
    [row] = table.rows
    assert (table.token_bytes, row.picture_bytes, row.request_bytes) == (None, None, None)
    assert why in table.source
    assert (row.at_once is None) == (cache is None)


def test_sliding_windows_are_said_to_be_counted_in_full() -> None:
    kinds = ["sliding_attention", "sliding_attention", "full_attention"]
    table = kv_table([SEEN], {"text_config": {**CONFIG, "layer_types": kinds}}, None, 128)
    assert table.token_bytes == TOKEN_BYTES
    assert "sliding window counted in full" in table.source
