"""The bench model with other vision towers: what an image token costs to encode, against what it costs to prefill.

Where a split wins depends on that ratio, and models differ in it by a factor of thirty. The language model is the bench
model's in all of them, so for a picture of some size only the encode changes. Must not import vLLM.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.model import VISION, build_bench_model, configuration
from chiasm.telemetry.signature.shapes import language_of, tower_of
from chiasm.telemetry.signature.work import encode_work, likely_grid, prefill_work

IMAGE_TOKENS = 256  # a picture of 448 x 448 pixels
_FLOAT32 = 4  # bytes


@dataclass(frozen=True)
class Variant:
    """A tower, and the public model that its ratio is like.

    Of LLaVA-1.5 and Qwen2.5-VL that is by the same formulas. Gemma 3's are not among them: it sends 16 patches through
    0.41 G weights for each image token, of 3.9 G weights in all, which is 1.7 without attention.
    """

    name: str
    like: str
    vision: Mapping[str, Any]

    def build(self) -> Path:
        """The model's folder: see `build_bench_model`."""
        return build_bench_model(self.vision)

    def ratio(self, tokens: int = IMAGE_TOKENS) -> float:
        """FLOPs of encoding a square picture of so many tokens, over those of prefilling these."""
        return flop_ratio(configuration(self.vision).to_dict(), tokens)


def flop_ratio(config: Mapping[str, Any], tokens: int = IMAGE_TOKENS) -> float:
    """The same of any model whose matrices are known, by its `config.json` with every field present.

    Raises:
        ValueError: its architecture is not known.
    """
    tower, language = tower_of(config), language_of(config)
    encode = encode_work(tower, [likely_grid(tower, tokens)], _FLOAT32)
    return encode.flops / prefill_work(language, [tokens], _FLOAT32).flops


def _tower(**changed: Any) -> dict[str, Any]:
    return VISION | changed


VARIANTS = (
    Variant(
        "narrow",
        "LLaVA-1.5-7B",
        _tower(depth=3, hidden_size=128, intermediate_size=352, num_heads=2, fullatt_block_indexes=[2]),
    ),
    Variant("slim", "Qwen2.5-VL-7B", _tower(hidden_size=256, intermediate_size=704, num_heads=4)),
    Variant("bench", "Qwen2.5-VL-3B", VISION),
    Variant("deep", "Gemma-3-4B", _tower(depth=21, fullatt_block_indexes=[4, 9, 14, 19])),
)
"""The least ratio first."""
