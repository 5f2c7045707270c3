"""The nouns that every room shares: ids, roles, an item of media, its embedding, and the life of a request.

Owns no behaviour. Imports nothing of Chiasm, and nothing heavier than msgspec.
"""

from enum import StrEnum
from typing import NewType

from msgspec import Struct

RequestId = NewType("RequestId", str)
"""One client request, named by the gateway; it is also the `X-Request-Id` that engines see."""

WorkerId = NewType("WorkerId", str)
"""One worker actor and the engine it owns, e.g. `encoder-0`."""

GatewayId = NewType("GatewayId", str)
"""One life of one gateway's process: one that was started again is another."""

ItemUuid = NewType("ItemUuid", str)
"""The identity of one item of media (`chiasm.gateway.identity`): equal uuids mean equal embeddings."""


class Role(StrEnum):
    """What one engine is loaded for."""

    ENCODER = "encoder"  # vision tower only: no language model, no KV cache
    DECODER = "decoder"  # language model only: image embeddings arrive over the wire
    TEXT = "text"  # language model only, text requests only
    WHOLE = "whole"  # the full model, unsplit


class Item(Struct, frozen=True, array_like=True):
    """One item of media in a request, as the scheduler sees it."""

    uuid: ItemUuid
    modality: str  # "image"
    tokens: int  # placeholder tokens the item will take, estimated from its pixels


Metadata = dict[str, list[int | float | list[int | float]]]
"""What sizes an item's placeholders, by field name, e.g. `{"image_grid_thw": [1, 14, 22]}`."""


class Embedding(Struct, frozen=True, array_like=True):
    """An encoded item: where it lies, and what a decoder must know to make room for it.

    `key` is the name that vLLM gave the item (`mm_hash`): the uuid itself, or a rehash of it when the request carries
    processor options. `metadata` holds what sizes the item's placeholders.
    `shape` is `(tokens, width)`; the width exceeds the language model's where several feature levels are stacked.
    """

    uuid: ItemUuid
    key: str
    modality: str
    metadata: Metadata
    endpoint: str  # ZeroMQ endpoint of the encoder that holds it
    shape: tuple[int, int]
    dtype: str  # torch's name without "torch.", e.g. "bfloat16"


class RequestState(StrEnum):
    """The life of a request. `scheduler/roster.py` keeps its state, `lifecycle.py` says what changes it.

    ::

        submit ──► ENCODING ──► READY ──► DECODING ──► DONE
           │           ▲          ▲          │
           │           │          └──────────┤ given back, or the engine died: no token delivered, or the rest can move
           │           └─────────────────────┘ an embedding was lost, no token delivered
           └─(text, or whole)───► READY
        from every state: ──► FAILED (a named error) or CANCELLED (the client left)
    """

    ENCODING = "encoding"  # at least one of its items has no embedding yet
    READY = "ready"  # withheld in the scheduler's queue until a decoder has credit for it
    DECODING = "decoding"  # handed to a decoder
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"
