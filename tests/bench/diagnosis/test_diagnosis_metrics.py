"""vLLM's metrics, and what they tell of its users and its KV cache."""

import dataclasses
import importlib.util
import re
from pathlib import Path

import pytest

from bench.diagnosis import metrics
from bench.diagnosis.metrics import KvCache, Page, Traffic, parse, traffic

PAGE = """
vllm:num_requests_running{engine="0"} 2.0
vllm:num_requests_running{engine="1"} 1.0
vllm:num_requests_waiting{engine="0"} 4.0
vllm:num_requests_waiting{engine="1"} 0.0
vllm:kv_cache_usage_perc{engine="0"} 0.25
vllm:kv_cache_usage_perc{engine="1"} 0.125
vllm:generation_tokens_total{engine="0"} 1000.0
vllm:generation_tokens_total{engine="1"} 10.0
vllm:num_preemptions_total{engine="0"} 3.0
vllm:mm_cache_queries_total{engine="0"} 100.0
vllm:mm_cache_hits_total{engine="0"} 40.0
vllm:inter_token_latency_seconds_bucket{engine="0",le="0.1"} 1900.0
vllm:inter_token_latency_seconds_bucket{engine="0",le="0.2"} 2000.0
vllm:inter_token_latency_seconds_bucket{engine="0",le="+Inf"} 2000.0
vllm:cache_config_info{block_size="16",num_gpu_blocks="202",cache_dtype="auto",kv_cache_memory_bytes="None"} 1.0
"""


def page(**changes: str) -> Page:
    text = PAGE
    for name, value in changes.items():
        text = re.sub(rf'{name}="[^"]*"', f'{name}="{value}"', text)
    found = parse(text)
    assert found is not None
    return found


def test_a_page_is_of_all_engines_or_of_one() -> None:
    found = page()
    assert found.engines == ("0", "1")
    assert (found.running, found.waiting, found.taken, found.generated, found.preempted) == (3, 4, 0.25, 1010, 3)
    other = parse(PAGE, engine="1")
    assert other is not None
    assert other.engines == ("0", "1")
    assert (other.running, other.waiting, other.taken, other.generated, other.preempted) == (1, 0, 0.125, 10, 0)
    assert other.cache == found.cache


def test_ten_engines_are_in_order() -> None:
    lines = "".join(f'vllm:num_requests_running{{engine="{number}"}} 0\n' for number in range(11))
    found = parse(PAGE + lines)
    assert found is not None
    assert found.engines == tuple(map(str, range(11)))


def test_what_is_not_vllms_is_none() -> None:
    assert parse("python_info 1.0\n") is None
    assert parse("<html>no</html>") is None
    assert parse(PAGE.replace("vllm:num_requests_waiting", "vllm:other")) is None


def test_a_cache_is_that_of_one_engine_without_the_block_that_holds_nothing() -> None:
    assert page().cache == KvCache(100 * 16, 16, even=True, layout="auto", value_bytes=2, token_bytes=None)


def test_vllms_own_count_of_tokens_tells_where_layers_are_of_several_kinds() -> None:
    def told(tokens: int) -> KvCache | None:
        found = parse(PAGE.replace('block_size="16"', f'block_size="16",kv_cache_size_tokens="{tokens}"'))
        return found and found.cache

    assert told(1616 - 8) == page().cache  # rounded to the longest prompt
    other = told(5000)
    assert other is not None
    assert (other.tokens, other.even) == (5000, False)


@pytest.mark.parametrize(
    ("layout", "value_bytes"), [("bfloat16", 2), ("fp8_e4m3", 1), ("fp8_ds_mla", None), ("nvfp4", None)]
)
def test_only_layouts_of_values_alone_have_their_bytes(layout: str, value_bytes: int | None) -> None:
    cache = page(cache_dtype=layout).cache
    assert cache is not None
    assert (cache.layout, cache.value_bytes) == (layout, value_bytes)


def test_a_cache_that_was_given_bytes_tells_those_of_a_token() -> None:
    cache = page(kv_cache_memory_bytes="1654784").cache
    assert cache is not None
    assert cache.token_bytes == 1024


def test_what_users_have_is_what_came_between_two_readings() -> None:
    before = page()
    after = dataclasses.replace(
        before, pictures=150, pictures_found=60, gaps={0.1: 1900 + 1970, 0.2: 2000 + 2000, float("inf"): 4000}
    )
    found = traffic(before, after, 10.0)
    assert (found.new_per_s, found.found, found.gaps) == (3.0, 0.4, 2000)
    assert found.p99_ms == pytest.approx(100 + 100 / 3)  # ten of the thirty in that bucket


def test_few_gaps_have_no_p99_and_no_pictures_no_share() -> None:
    before = page()
    after = dataclasses.replace(before, gaps={bound: count + 999 for bound, count in before.gaps.items()})
    assert traffic(before, after, 10.0) == Traffic(10.0, 0.0, 0.0, 999, None)
    untold = dataclasses.replace(before, pictures=None, pictures_found=0)
    assert traffic(untold, untold, 10.0).new_per_s is None


def test_a_p99_beyond_all_buckets_is_not_made_up() -> None:
    before = page()
    after = dataclasses.replace(before, gaps={**before.gaps, float("inf"): 90_000})
    assert traffic(before, after, 10.0).p99_ms is None


def test_every_name_is_one_of_vllms() -> None:
    spec = importlib.util.find_spec("vllm")
    if spec is None or spec.origin is None:
        pytest.skip("vLLM is not installed")
    known = (Path(spec.origin).parent / "v1/metrics/loggers.py").read_text()
    names = set(re.findall(r'"(vllm:\w+)"', Path(metrics.__file__).read_text()))
    assert len(names) > 8
    for name in names:
        assert f'"{re.sub("_(total|bucket)$", "", name)}"' in known, name
    labels = (Path(spec.origin).parent / "config/cache.py").read_text()
    for label in ("num_gpu_blocks", "block_size", "kv_cache_size_tokens", "kv_cache_memory_bytes", "cache_dtype"):
        assert f'"{label}"' in Path(metrics.__file__).read_text()
        assert f"    {label}: " in labels
