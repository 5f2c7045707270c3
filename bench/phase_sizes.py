"""Sizes of models, and of what `bench.phases` runs on them."""

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

SEED = 3
PUPIL = Path(__file__).parent.parent / "chiasm" / "models" / "pupil" / "config.json"

TEXT = {
    "max_position_embeddings": 32_768,
    "rms_norm_eps": 1e-6,
    "rope_parameters": {"rope_type": "default", "rope_theta": 1_000_000.0, "mrope_section": [16, 24, 24]},
}
VISION = {"patch_size": 14, "spatial_merge_size": 2, "temporal_patch_size": 2, "window_size": 112, "num_heads": 16}
PUBLIC_TOWER = {"depth": 32, "hidden_size": 1280, "intermediate_size": 3420, "fullatt_block_indexes": [7, 15, 23, 31]}


def _qwen(text: dict[str, Any], tower: dict[str, Any], tied: bool) -> dict[str, Any]:
    return {
        "text_config": TEXT | text,
        "vision_config": VISION | tower | {"out_hidden_size": text["hidden_size"]},
        "tie_word_embeddings": tied,
    }


CONFIGS: dict[str, dict[str, Any]] = {
    # As in config.json of Qwen/Qwen2.5-VL-3B-Instruct and -7B-Instruct on the hub.
    "qwen2.5-vl-3b": _qwen(
        {
            "vocab_size": 151_936,
            "hidden_size": 2048,
            "intermediate_size": 11_008,
            "num_hidden_layers": 36,
            "num_attention_heads": 16,
            "num_key_value_heads": 2,
        },
        PUBLIC_TOWER,
        tied=True,
    ),
    "qwen2.5-vl-7b": _qwen(
        {
            "vocab_size": 152_064,
            "hidden_size": 3584,
            "intermediate_size": 18_944,
            "num_hidden_layers": 28,
            "num_attention_heads": 28,
            "num_key_value_heads": 4,
        },
        PUBLIC_TOWER,
        tied=False,
    ),
    # A tenth of 3B in all proportions, for CPUs.
    "qwen2.5-vl-300m": _qwen(
        {
            "vocab_size": 32_768,
            "hidden_size": 1024,
            "intermediate_size": 5504,
            "num_hidden_layers": 12,
            "num_attention_heads": 8,
            "num_key_value_heads": 1,
        },
        {"depth": 12, "hidden_size": 640, "intermediate_size": 1712, "num_heads": 8, "fullatt_block_indexes": [5, 11]},
        tied=True,
    ),
}
MODELS = (*CONFIGS, "pupil")


def config_of(name: str) -> Any:
    """The configuration of one of `MODELS`, as transformers has it."""
    from transformers import Qwen2_5_VLConfig

    if name == "pupil":
        return Qwen2_5_VLConfig(**json.loads(PUPIL.read_text()))
    return Qwen2_5_VLConfig(**CONFIGS[name])


@dataclass(frozen=True)
class Plan:
    """Which points to measure. `image`, `prompt` and `batch` are those of the request that shares are told of."""

    images: tuple[tuple[int, int], ...]  # pixels a side (a multiple of 28), how many in a batch
    prompts: tuple[int, ...]  # tokens
    batches: tuple[int, ...]  # streams in a step
    context: int  # tokens that each stream's token meets
    image: tuple[int, int]
    prompt: int
    batch: int
    answer: int = 128  # tokens
    seconds: float = 1.5  # for each point, and again for its eager run

    def __post_init__(self) -> None:
        if self.image not in self.images or self.prompt not in self.prompts or self.batch not in self.batches:
            raise ValueError("the request's image, prompt and batch must be among those that are measured")

    def of_request(self) -> "Plan":
        """Only what the request does."""
        return replace(self, images=(self.image,), prompts=(self.prompt,), batches=(self.batch,))


# A picture of 1008 x 1008 has 1,296 tokens; with 128 of text, and half of an answer, a context of 1,488.
ON_GPU = Plan(
    images=((336, 1), (336, 8), (672, 1), (1008, 1), (1008, 4), (2016, 1)),
    prompts=(256, 1424, 4096),
    batches=(1, 8, 32, 128),
    context=1488,
    image=(1008, 1),
    prompt=1424,
    batch=32,
)
ON_GPU_QUICK = replace(ON_GPU, images=((336, 1), (1008, 1)), prompts=(1424,), batches=(1, 32), seconds=0.6)
ON_CPU = Plan(
    images=((224, 1), (448, 1), (448, 2), (672, 1)),
    prompts=(64, 320, 1024),
    batches=(1, 4, 16),
    context=384,
    image=(448, 1),
    prompt=320,
    batch=4,
    seconds=10.0,
)
ON_CPU_QUICK = replace(ON_CPU, images=((448, 1),), prompts=(320,), batches=(1, 4), seconds=2.0)


def encode_label(side: int, count: int) -> str:
    """How an encode is called."""
    return f"{count} image{'s' if count > 1 else ''} of {side} x {side}"


def prefill_label(tokens: int) -> str:
    """How a prefill is called."""
    return f"{tokens} tokens"


def decode_label(streams: int, context: int) -> str:
    """How a decode step is called."""
    return f"{streams} stream{'s' if streams > 1 else ''} at {context}"


def span_name(phase: str, label: str, variant: str) -> str:
    """What the counters of a point are marked with."""
    return f"{phase}: {label}, {variant}"
