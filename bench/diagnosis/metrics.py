"""vLLM's own metrics (`GET /metrics`), where a server has them, and what they tell of what its users do."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import aiohttp
from prometheus_client.parser import text_string_to_metric_families

from bench.percentiles import P99_FROM, percentile_of_histogram

TIMEOUT_S = 5.0
GAPS = "vllm:inter_token_latency_seconds_bucket"
EVEN = 0.02  # by which vLLM's own count of a cache's tokens may differ from its blocks' by rounding
VALUE_BYTES = {  # of layouts that keep nothing beside the values
    **dict.fromkeys(("auto", "float16", "bfloat16"), 2),
    **dict.fromkeys(("fp8", "fp8_e4m3", "fp8_e5m2", "fp8_inc"), 1),
}


@dataclass(frozen=True)
class KvCache:
    """Of one engine; its null block, which holds nothing, is left out."""

    tokens: int  # room
    block_tokens: int
    even: bool  # each token takes as much of it, wherever it stands: not so with sliding windows or a recurrent state
    layout: str  # vLLM's name for the type of its values
    value_bytes: int | None  # None: not known of that layout
    token_bytes: float | None  # on one card, where the cache's size was given to the server in bytes


@dataclass(frozen=True)
class Page:
    """One reading, of all engines together or of one; counts are since the server started."""

    engines: tuple[str, ...]  # labels of all that it has
    running: int
    waiting: int
    taken: float  # part of the KV cache, 0 to 1, of the engine that has the least left
    generated: int  # tokens
    preempted: int  # requests; 0 where it is not told
    pictures: int | None  # that were looked for in the processor's cache; None: not told
    pictures_found: int
    gaps: Mapping[float, int]  # of all streams: so many are not above these seconds
    cache: KvCache | None


async def read(client: aiohttp.ClientSession, url: str, key: str | None, engine: str | None = None) -> Page | None:
    """The metrics of the server at that base URL; None: it has none, or they are not vLLM's."""
    headers = {} if key is None else {"Authorization": f"Bearer {key}"}
    try:
        timeout = aiohttp.ClientTimeout(total=TIMEOUT_S)
        async with client.get(f"{url}/metrics", headers=headers, timeout=timeout) as answer:
            return parse(await answer.text(), engine) if answer.status == 200 else None
    except (aiohttp.ClientError, TimeoutError, OSError):
        return None


@dataclass
class _Sums:
    """What has been read of a page."""

    values: dict[str, float] = field(default_factory=dict)
    engines: set[str] = field(default_factory=set)
    taken: list[float] = field(default_factory=list)
    gaps: dict[float, int] = field(default_factory=dict)
    cache: Mapping[str, str] = field(default_factory=dict)


def parse(text: str, engine: str | None = None) -> Page | None:
    """A page's text; None: it is not of vLLM, or of one that names its metrics otherwise."""
    try:
        sums = _sums(text, engine)
        values = sums.values
        pictures = values.get("vllm:mm_cache_queries_total")
        return Page(
            engines=tuple(sorted(sums.engines, key=lambda each: (len(each), each))),
            running=round(values["vllm:num_requests_running"]),
            waiting=round(values["vllm:num_requests_waiting"]),
            taken=max(sums.taken),
            generated=round(values["vllm:generation_tokens_total"]),
            preempted=round(values.get("vllm:num_preemptions_total", 0)),
            pictures=None if pictures is None else round(pictures),
            pictures_found=round(values.get("vllm:mm_cache_hits_total", 0)),
            gaps=sums.gaps,
            cache=_cache(sums.cache, max(1, len(sums.engines))),
        )
    except (KeyError, ValueError):
        return None


def _sums(text: str, engine: str | None) -> _Sums:
    sums = _Sums()
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            its = sample.labels.get("engine", "")
            if sample.name == "vllm:num_requests_running":
                sums.engines.add(its)
            if sample.name == "vllm:cache_config_info":
                sums.cache = sums.cache or sample.labels
            if engine is not None and its != engine:
                continue
            sums.values[sample.name] = sums.values.get(sample.name, 0.0) + sample.value
            if sample.name == "vllm:kv_cache_usage_perc":
                sums.taken.append(sample.value)
            if sample.name == GAPS:
                bound = float(sample.labels["le"])
                sums.gaps[bound] = sums.gaps.get(bound, 0) + round(sample.value)
    return sums


def _cache(labels: Mapping[str, str], engines: int) -> KvCache | None:
    """`num_gpu_blocks` is of all engines together (vLLM 0.32), `kv_cache_size_tokens` of one; not all versions tell
    the latter, which alone is right where layers of different kinds share the blocks.
    """
    try:
        blocks, block_tokens = int(labels["num_gpu_blocks"]) // engines, int(labels["block_size"])
    except (KeyError, ValueError):
        return None
    if blocks < 2 or block_tokens < 1:
        return None
    by_blocks = blocks * block_tokens
    told = int(room) if (room := labels.get("kv_cache_size_tokens", "")).isdecimal() else by_blocks
    even = abs(told - by_blocks) <= EVEN * by_blocks
    nbytes, layout = labels.get("kv_cache_memory_bytes", ""), labels.get("cache_dtype", "")
    return KvCache(
        tokens=(blocks - 1) * block_tokens if even else told,
        block_tokens=block_tokens,
        even=even,
        layout=layout,
        value_bytes=VALUE_BYTES.get(layout),
        token_bytes=int(nbytes) / told if nbytes.isdecimal() and told else None,
    )


@dataclass(frozen=True)
class Traffic:
    """What the server's users had while nothing of ours was there."""

    seconds: float
    new_per_s: float | None  # pictures that the processor had to prepare; None: not told
    found: float  # part of all pictures that it had in its cache
    gaps: int  # between tokens
    p99_ms: float | None  # of these; None: too few


def traffic(before: Page, after: Page, seconds: float) -> Traffic:
    """Between two readings of the same engines."""
    gaps = {bound: count - before.gaps.get(bound, 0) for bound, count in after.gaps.items()}
    pictures = None if after.pictures is None else after.pictures - (before.pictures or 0)
    found = after.pictures_found - before.pictures_found
    count = max(gaps.values(), default=0)
    try:
        p99_ms = 1000 * percentile_of_histogram(gaps, 0.99) if count >= P99_FROM else None
    except ValueError:  # it lies above the last bound
        p99_ms = None
    return Traffic(
        seconds=seconds,
        new_per_s=None if pictures is None else (pictures - found) / seconds,
        found=found / pictures if pictures else 0.0,
        gaps=count,
        p99_ms=p99_ms,
    )
