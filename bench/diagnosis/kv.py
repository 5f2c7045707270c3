"""What a request with a picture takes of the KV cache: computed from the model's configuration, and as seen."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bench.diagnosis.metrics import KvCache
from bench.diagnosis.probing import SizeSeen
from chiasm.footprint import footprint


@dataclass(frozen=True)
class KvRow:
    """Of a request with one picture of a size that is sent, when its answer is complete."""

    seen: SizeSeen
    picture_bytes: int | None
    request_bytes: int | None
    at_once: int | None  # such requests that the cache has room for
    cached_tokens: int | None  # that the request of the diagnosis was seen to have room for ...
    expected_tokens: int | None  # ... when it should have had these


@dataclass(frozen=True)
class KvTable:
    """`token_bytes` is None where nothing tells it."""

    token_bytes: float | None
    source: str  # of it, or what would tell it
    cache: KvCache | None
    answer_tokens: int
    rows: tuple[KvRow, ...]


def kv_table(
    sizes: Sequence[SizeSeen], config: Mapping[str, Any] | None, cache: KvCache | None, answer_tokens: int
) -> KvTable:
    """A row for each size."""
    token_bytes, source = _token_bytes(config, cache)
    rows = tuple(_row(seen, token_bytes, cache, answer_tokens) for seen in sizes)
    return KvTable(token_bytes, source, cache, answer_tokens, rows)


def _row(seen: SizeSeen, token_bytes: float | None, cache: KvCache | None, answer_tokens: int) -> KvRow:
    tokens = seen.prompt_tokens + answer_tokens - 1  # an answer's last token is not kept
    block = cache.block_tokens if cache else 1
    blocks = -(-tokens // block)
    reading = seen.kv if cache else None
    return KvRow(
        seen=seen,
        picture_bytes=None if token_bytes is None else round(seen.rung.tokens * token_bytes),
        request_bytes=None if token_bytes is None else round(blocks * block * token_bytes),
        at_once=cache.blocks // blocks if cache else None,
        cached_tokens=round(reading.share * cache.blocks) * block if reading and cache else None,
        expected_tokens=reading.tokens if reading else None,
    )


def _token_bytes(config: Mapping[str, Any] | None, cache: KvCache | None) -> tuple[float | None, str]:
    if config is not None:
        value_bytes = (cache.value_bytes if cache else None) or (4 if "float32" in str(config.get("dtype")) else 2)
        try:
            return footprint(config, value_bytes).kv, f"the model's configuration, {value_bytes} bytes a value"
        except (KeyError, TypeError, AttributeError):
            pass
    if cache is not None and cache.token_bytes is not None:
        return cache.token_bytes, "the size and blocks of the cache that vLLM's metrics tell, on each card"
    cure = "name the model's folder: --model" if config is None else "its configuration has not the usual fields"
    return None, f"bytes are not known: {cure}"
