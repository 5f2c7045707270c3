"""The bench model: Qwen2.5-VL's architecture, a thirtieth of its 3B checkpoint in all proportions, random weights.

For what a trained model of a few million parameters cannot show: here a decode step is bound by reading the weights,
and engines, not front-ends, fill the cores. 98 M parameters of language model (36 layers became 9) and 21 M of vision
tower (32 became 10) stand to each other as 3B's do, so an image token costs about as much to encode as to prefill. Only
the vocabulary is out of proportion: bytes, so that nothing is downloaded. It must not import vLLM.
"""

import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from chiasm.calibration_cache import digest
from chiasm.models.tiny import TOKEN_IDS, VOCABULARY, Family, build_processor, draw_weights

SEED = 1
PRINTABLE = 94  # the first tokens are the characters from ! to ~
TEXT = {
    "vocab_size": VOCABULARY,
    "hidden_size": 768,
    "intermediate_size": 4096,
    "num_hidden_layers": 9,
    "num_attention_heads": 12,
    "num_key_value_heads": 2,
    "head_dim": 64,
    "max_position_embeddings": 8192,
    "rope_parameters": {"rope_type": "default", "rope_theta": 1_000_000.0, "mrope_section": [8, 12, 12]},
    "tie_word_embeddings": False,
    "bos_token_id": TOKEN_IDS["<|endoftext|>"],
    "eos_token_id": TOKEN_IDS["<|im_end|>"],
}
VISION = {
    "depth": 10,
    "hidden_size": 384,
    "intermediate_size": 1024,
    "num_heads": 6,
    "out_hidden_size": TEXT["hidden_size"],
    "patch_size": 14,
    "spatial_merge_size": 2,
    "temporal_patch_size": 2,
    "window_size": 112,
    "fullatt_block_indexes": [4, 9],
}
SPECIAL = {
    "image_token_id": TOKEN_IDS["<|image_pad|>"],
    "video_token_id": TOKEN_IDS["<|video_pad|>"],
    "vision_start_token_id": TOKEN_IDS["<|vision_start|>"],
    "vision_end_token_id": TOKEN_IDS["<|vision_end|>"],
}


def build_bench_model(vision: Mapping[str, Any] | None = None) -> Path:
    """The model's folder below $XDG_CACHE_HOME or ~/.cache; made on the first call (470 MB, under a minute).

    With `vision`, the vision tower's part of the configuration, it gets another tower than `VISION`.
    Its greedy answers are of printable characters and never end by themselves: set `max_tokens`.
    """
    vision = VISION if vision is None else vision
    name = f"bench-model-{digest(TEXT, vision, SEED)}"
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "chiasm" / name
    if not folder.exists():
        import torch  # noqa: F401  # before transformers: see chiasm.plugins.repair_torch_companions

        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent) as elsewhere:
            unfinished = Path(elsewhere) / folder.name
            build_processor(Family.QWEN2_5_VL).save_pretrained(unfinished)
            random_model(vision).save_pretrained(unfinished)
            unfinished.rename(folder)  # at once, so that what stands there is always whole
    return folder


def random_model(vision: Mapping[str, Any]) -> Any:
    """The model itself, in float32."""
    return drawn(configuration(vision), "cpu")


def drawn(config: Any, device: str) -> Any:
    """A model with such a configuration, whose greedy answers are of printable characters."""
    import torch
    from transformers import AutoModelForImageTextToText
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()
    torch.manual_seed(SEED)
    with torch.device(device):
        model = AutoModelForImageTextToText.from_config(config)
        draw_weights(model)
    with torch.no_grad():
        # The best of 94 random logits is above zero, so greedy sampling takes none of the others.
        model.lm_head.weight[PRINTABLE:] = 0
    model.generation_config.eos_token_id = TOKEN_IDS["<|im_end|>"]
    return model


def configuration(vision: Mapping[str, Any]) -> Any:
    """Of the model with such a vision tower, as transformers has it."""
    import torch  # noqa: F401  # as above
    from transformers import Qwen2_5_VLConfig

    return Qwen2_5_VLConfig(
        text_config=TEXT, vision_config=dict(vision), tie_word_embeddings=False, dtype="float32", **SPECIAL
    )
