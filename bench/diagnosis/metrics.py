"""vLLM's own metrics (`GET /metrics`), where a server has them."""

from collections.abc import Mapping
from dataclasses import dataclass

import aiohttp
from prometheus_client.parser import text_string_to_metric_families

TIMEOUT_S = 5.0
ONE_BYTE = ("fp8", "int8")  # how the names of KV cache types begin whose values have one byte


@dataclass(frozen=True)
class KvCache:
    """Of one engine."""

    blocks: int
    block_tokens: int
    value_bytes: int | None  # None: as the model's
    token_bytes: float | None  # on one card, where the cache's size was given to the server in bytes


@dataclass(frozen=True)
class Clock:
    """How long requests took so far, by vLLM's own clock: sums over those that have ended, in seconds."""

    ended: int
    prompt_tokens: int
    queued_s: float
    prefill_s: float  # from when a request was first scheduled to its first token: an encode is in it


@dataclass(frozen=True)
class Page:
    """One reading of the metrics, of all engines together; `cache` is of the first."""

    running: int
    waiting: int
    taken: float  # part of the KV cache, 0 to 1
    generated: int  # tokens, since the server started
    clock: Clock
    cache: KvCache | None


async def read(client: aiohttp.ClientSession, url: str, key: str | None) -> Page | None:
    """The metrics of the server at that base URL; None: it has none, or they are not vLLM's."""
    headers = {} if key is None else {"Authorization": f"Bearer {key}"}
    try:
        timeout = aiohttp.ClientTimeout(total=TIMEOUT_S)
        async with client.get(f"{url}/metrics", headers=headers, timeout=timeout) as answer:
            return parse(await answer.text()) if answer.status == 200 else None
    except (aiohttp.ClientError, TimeoutError, OSError):
        return None


def parse(text: str) -> Page | None:
    """A page's text; None: it is not of vLLM, or of one that names its metrics otherwise."""
    values: dict[str, float] = {}
    cache = None
    try:
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                values[sample.name] = values.get(sample.name, 0.0) + sample.value
                if sample.name == "vllm:cache_config_info" and cache is None:
                    cache = _cache(sample.labels)
        return Page(
            running=round(values["vllm:num_requests_running"]),
            waiting=round(values["vllm:num_requests_waiting"]),
            taken=values["vllm:kv_cache_usage_perc"],
            generated=round(values["vllm:generation_tokens_total"]),
            clock=Clock(
                ended=round(values["vllm:request_prefill_time_seconds_count"]),
                prompt_tokens=round(values["vllm:request_prompt_tokens_sum"]),
                queued_s=values["vllm:request_queue_time_seconds_sum"],
                prefill_s=values["vllm:request_prefill_time_seconds_sum"],
            ),
            cache=cache,
        )
    except (KeyError, ValueError):
        return None


def _cache(labels: Mapping[str, str]) -> KvCache | None:
    try:
        blocks, block_tokens = int(labels["num_gpu_blocks"]), int(labels["block_size"])
    except (KeyError, ValueError):
        return None
    told = labels.get("kv_cache_memory_bytes", "")
    return KvCache(
        blocks=blocks,
        block_tokens=block_tokens,
        value_bytes=1 if labels.get("cache_dtype", "").startswith(ONE_BYTE) else None,
        token_bytes=int(told) / (blocks * block_tokens) if told.isdecimal() and blocks * block_tokens else None,
    )
