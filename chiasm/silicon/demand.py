"""What one request asks of the cards: FLOPs and bytes of its phases, and what must lie in memory for it.

Counted as `chiasm.telemetry.signature.work` counts, from the model's configuration alone, in bfloat16.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from chiasm.footprint import BYTES, footprint, language_model_bytes, vision_tower_bytes
from chiasm.telemetry.signature.shapes import language_of, tower_of
from chiasm.telemetry.signature.work import Work, decode_work, encode_work, likely_grid, prefill_work


class UnknownDemand(ValueError):
    """The model's configuration does not tell what a request costs; the message says why."""


@dataclass(frozen=True)
class Traffic:
    """The request that roles are chosen for: that of `chiasm bench phases` on a GPU."""

    image_tokens: int = 1296
    text_tokens: int = 128
    answer_tokens: int = 128
    streams: int = 32  # that a decoder answers at once, if it has memory for them

    @property
    def prompt_tokens(self) -> int:
        """Image and text."""
        return self.image_tokens + self.text_tokens


class Demand:
    """What one request of this traffic asks of cards that serve the model with this `config.json`.

    Raises:
        UnknownDemand: the formulas do not know its architecture.
    """

    def __init__(self, config: Mapping[str, Any], traffic: Traffic) -> None:
        try:
            tower, self._language = tower_of(config), language_of(config)
        except (ValueError, KeyError, TypeError) as error:
            raise UnknownDemand(
                f"roles cannot be chosen: {error}. Set count, gpus and labels of encoders and decoders yourself."
            ) from error
        self.traffic = traffic
        self.encode = encode_work(tower, [likely_grid(tower, traffic.image_tokens)], BYTES)
        self.prefill = prefill_work(self._language, [traffic.prompt_tokens], BYTES)
        self.tower_bytes = vision_tower_bytes(config)
        self.language_bytes = language_model_bytes(config)
        self.kv_bytes = footprint(config).kv * (traffic.prompt_tokens + traffic.answer_tokens)  # of a whole request

    def step(self, streams: int) -> Work:
        """One decode step of so many requests, each in the middle of its answer."""
        context = self.traffic.prompt_tokens + self.traffic.answer_tokens // 2
        return decode_work(self._language, [context] * streams, BYTES)
