"""What a request with a picture takes of the KV cache: computed from the model's configuration, and as seen."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bench.diagnosis.metrics import KvCache
from bench.diagnosis.probing import SizeSeen
from chiasm.footprint import BYTES, footprint


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
    whole = -(-tokens // block) * block
    reading = seen.kv if cache and cache.even else None
    return KvRow(
        seen=seen,
        picture_bytes=None if token_bytes is None else round(seen.rung.tokens * token_bytes),
        request_bytes=None if token_bytes is None else round(whole * token_bytes),
        at_once=cache.tokens // whole if cache else None,
        cached_tokens=round(reading.share * cache.tokens) if reading and cache else None,
        expected_tokens=reading.tokens if reading else None,
    )


def _token_bytes(config: Mapping[str, Any] | None, cache: KvCache | None) -> tuple[float | None, str]:
    """From the configuration, for all cards together; else from the cache's size, on each of them."""
    why = "name the model's folder: --config"
    if config is not None:
        value_bytes = cache.value_bytes if cache else BYTES  # vLLM makes float32 models 16-bit unless told otherwise
        if value_bytes is None:
            why = f"the cache's layout {cache.layout if cache else ''} is none that is computed here"
        elif any(part.get("kv_lora_rank") for part in _parts(config)):
            why = "the model keeps a latent in place of keys and values (MLA), which is not computed here"
        else:
            try:
                nbytes = footprint(config, value_bytes).kv
                sliding = any("sliding_attention" in (part.get("layer_types") or ()) for part in _parts(config))
                fully = "; layers with a sliding window counted in full" if sliding else ""
                return nbytes, f"the configuration's, {value_bytes} bytes a value, on all cards together{fully}"
            except (KeyError, TypeError, AttributeError):
                why = "the configuration has not the usual fields"
    if cache is not None and cache.token_bytes is not None:
        return cache.token_bytes, "by the cache's size and room in vLLM's metrics, on each card"
    return None, f"bytes are not known: {why}"


def _parts(config: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """It, and all that it nests: models name their language model's part differently."""
    yield config
    for value in config.values():
        if isinstance(value, Mapping):
            yield from _parts(value)
