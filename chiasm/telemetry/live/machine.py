"""What engines run, and on what machines: all that their steps are to be judged by, and that a request's room in a KV
cache follows from. Engines answer it, gateways gather it. Imports no vLLM.
"""

from typing import Any

from msgspec import Struct

from chiasm.image_tokens import ImageSizes
from chiasm.nouns import WorkerId
from chiasm.telemetry.signature.peaks import Best, Conditions


class Machine(Struct, frozen=True):
    """As an engine answers it (`GET /v1/chiasm/machine`)."""

    conditions: Conditions  # that its peaks depend on
    best: Best | None  # peaks of one processor or card; None where nobody has measured them
    cards: int  # that the engine's model is spread over; 1 on a CPU
    tower: bool  # it holds the vision tower
    language: bool  # it holds the language model
    value_bytes: int  # of one number in weights and activations
    kv_value_bytes: int  # of one in the KV cache
    kv_blocks: int  # that requests can have; 0 without a language model
    kv_block_tokens: int
    quantization: str | None  # vLLM's name of how weights are stored, if not as they are computed with
    config: dict[str, Any]  # the model's (`config.json`), every field of it present


class Machines(Struct, frozen=True):
    """As a gateway answers it (`GET /v1/chiasm/machines`)."""

    images: ImageSizes  # of its model
    machines: dict[WorkerId, Machine]  # of every engine that told
    silent: dict[WorkerId, str]  # why the others did not
