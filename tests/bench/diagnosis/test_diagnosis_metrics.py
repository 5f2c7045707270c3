"""vLLM's metrics, and what they and a configuration tell of the KV cache."""

import dataclasses

from bench.diagnosis.kv import kv_table
from bench.diagnosis.metrics import KvCache, parse
from bench.diagnosis.plan import Rung
from bench.diagnosis.probing import KvReading, SizeSeen

PAGE = """
vllm:num_requests_running{engine="0"} 2.0
vllm:num_requests_running{engine="1"} 1.0
vllm:num_requests_waiting{engine="0"} 4.0
vllm:kv_cache_usage_perc{engine="0"} 0.25
vllm:generation_tokens_total{engine="0"} 1000.0
vllm:request_prefill_time_seconds_sum{engine="0"} 3.5
vllm:request_prefill_time_seconds_count{engine="0"} 7.0
vllm:request_queue_time_seconds_sum{engine="0"} 0.5
vllm:request_prompt_tokens_sum{engine="0"} 900.0
vllm:cache_config_info{block_size="16",num_gpu_blocks="100",cache_dtype="auto",kv_cache_memory_bytes="1638400"} 1.0
"""
CONFIG = {
    "dtype": "bfloat16",
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "hidden_size": 64,
    "num_hidden_layers": 3,
}
TOKEN_BYTES = 2 * 3 * 2 * 16 * 2  # keys and values, layers, heads, their size, bytes of a value
SEEN = SizeSeen(Rung((448, 448), 1, 256), prompt_tokens=270, kv=KvReading(share=0.18, tokens=280))
CACHE = KvCache(blocks=100, block_tokens=16, value_bytes=None, token_bytes=None)


def test_a_page_is_summed_over_engines() -> None:
    page = parse(PAGE)
    assert page is not None
    assert (page.running, page.waiting, page.taken, page.generated) == (3, 4, 0.25, 1000)
    assert dataclasses.astuple(page.clock) == (7, 900, 0.5, 3.5)
    assert page.cache == KvCache(100, 16, None, 1024.0)


def test_what_is_not_vllms_is_none() -> None:
    assert parse("python_info 1.0\n") is None
    assert parse("<html>no</html>") is None
    assert parse(PAGE.replace("vllm:num_requests_waiting", "vllm:other")) is None


def test_a_cache_with_bytes_of_one_value() -> None:
    page = parse(PAGE.replace('"auto"', '"fp8_e4m3"').replace('"1638400"', '"None"'))
    assert page is not None
    assert page.cache == KvCache(100, 16, 1, None)


def test_a_request_is_counted_in_whole_blocks() -> None:
    table = kv_table([SEEN], CONFIG, CACHE, answer_tokens=128)
    [row] = table.rows
    assert table.token_bytes == TOKEN_BYTES
    assert row.picture_bytes == 256 * TOKEN_BYTES
    assert row.request_bytes == 400 * TOKEN_BYTES  # 270 + 127, in 25 blocks
    assert row.at_once == 4
    assert (row.cached_tokens, row.expected_tokens) == (288, 280)


def test_bytes_come_from_the_cache_where_there_is_no_configuration() -> None:
    table = kv_table([SEEN], None, dataclasses.replace(CACHE, token_bytes=1024.0), 128)
    assert table.token_bytes == 1024
    assert kv_table([SEEN], CONFIG, dataclasses.replace(CACHE, value_bytes=1), 128).token_bytes == TOKEN_BYTES / 2


def test_what_nothing_tells_is_not_made_up() -> None:
    table = kv_table([SEEN], None, None, 128)
    [row] = table.rows
    assert (table.token_bytes, row.picture_bytes, row.request_bytes, row.at_once) == (None, None, None, None)
    assert row.cached_tokens is None
    assert "--model" in table.source
    assert kv_table([SEEN], {"model_type": "odd"}, None, 128).token_bytes is None
