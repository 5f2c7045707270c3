"""Configurations of public models, the values that costs are counted from (each model's config.json on the hub)."""

from typing import Any

_TOWER = {
    "depth": 32,
    "hidden_size": 1280,
    "intermediate_size": 3420,
    "hidden_act": "silu",
    "patch_size": 14,
    "temporal_patch_size": 2,
    "spatial_merge_size": 2,
    "window_size": 112,
    "fullatt_block_indexes": [7, 15, 23, 31],
}


def _qwen(layers: int, width: int, heads: int, kv_heads: int, hidden: int, vocabulary: int) -> dict[str, Any]:
    text = {
        "num_hidden_layers": layers,
        "hidden_size": width,
        "num_attention_heads": heads,
        "num_key_value_heads": kv_heads,
        "intermediate_size": hidden,
        "vocab_size": vocabulary,
    }
    return {"model_type": "qwen2_5_vl", "text_config": text, "vision_config": _TOWER}


QWEN_3B = _qwen(36, 2048, 16, 2, 11008, 151_936) | {"tie_word_embeddings": True}
QWEN_7B = _qwen(28, 3584, 28, 4, 18944, 152_064)
QWEN_72B = _qwen(80, 8192, 64, 8, 29568, 152_064)
