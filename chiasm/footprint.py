"""What a model costs: an image token on the wire and in a KV cache, and the language model and the tower in memory.

All from the model's configuration alone.

`python -m chiasm.footprint MODEL...` (hub ids or folders) prints a line for each. The two are what a cut at the encoder
and a cut after the prefill would ship for an image token, so their ratio says what the place of the cut saves.
"""

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

BYTES = 2  # of one value in bfloat16 or float16


@dataclass(frozen=True)
class Footprint:
    """Bytes for one image token."""

    embedding: int  # on the wire: width, as often as feature levels are stacked (DeepStack)
    kv: int  # in the KV cache: 2 * attention layers * KV heads * head size

    @property
    def ratio(self) -> float:
        """How many times less the embedding is."""
        return self.kv / self.embedding


def footprint(config: Mapping[str, Any], value_bytes: int = BYTES) -> Footprint:
    """The footprint of a model with this `config.json`, every field of it present.

    Layers with linear attention keep no KV; those with a sliding window are counted in full. Not for models that keep a
    latent instead of keys and values (MLA).
    """
    whole, text = _parts(config)
    heads, width = text["num_attention_heads"], text["hidden_size"]
    kinds = text.get("layer_types") or ["full_attention"] * text["num_hidden_layers"]
    layers = sum(kind != "linear_attention" for kind in kinds)
    head_size = text.get("head_dim") or width // heads
    levels = 1 + len((whole.get("vision_config") or {}).get("deepstack_visual_indexes") or ())
    return Footprint(
        embedding=width * levels * value_bytes,
        kv=2 * layers * (text.get("num_key_value_heads") or heads) * head_size * value_bytes,
    )


def language_model_bytes(config: Mapping[str, Any], value_bytes: int = BYTES) -> int:
    """Weights of the language model, which a decoder holds, and a text engine as well.

    Norms and biases, under a thousandth, are left out. Experts are counted in every layer, and linear attention as
    full attention.
    """
    whole, text = _parts(config)
    heads, width = text["num_attention_heads"], text["hidden_size"]
    head_size = text.get("head_dim") or width // heads
    attention = 2 * width * head_size * (heads + (text.get("num_key_value_heads") or heads))
    experts = text.get("num_experts") or text.get("num_local_experts") or 1
    hidden = (text.get("moe_intermediate_size") if experts > 1 else None) or text["intermediate_size"]
    tied = whole.get("tie_word_embeddings", text.get("tie_word_embeddings", False))
    vocabulary = (1 if tied else 2) * text["vocab_size"] * width
    parameters: int = vocabulary + text["num_hidden_layers"] * (attention + 3 * width * hidden * experts)
    return parameters * value_bytes


def vision_tower_bytes(config: Mapping[str, Any], value_bytes: int = BYTES) -> int:
    """Weights of the vision tower, which an encoder holds, and a whole worker beside the language model.

    Norms, biases and what cuts an image into patches, some thousandths, are left out, and so is a projector that merges
    no patches.
    """
    whole, text = _parts(config)
    vision = whole["vision_config"]
    width = vision.get("embed_dim") or vision["hidden_size"]  # Qwen2-VL's hidden_size is that of the language model
    hidden = vision.get("intermediate_size") or int(width * vision["mlp_ratio"])
    matrices = 3 if vision.get("hidden_act") == "silu" else 2  # with a gate, or without
    layers = vision.get("depth") or vision["num_hidden_layers"]
    merged = width * (vision.get("spatial_merge_size") or 0) ** 2
    mergers = 1 + len(vision.get("deepstack_visual_indexes") or ())
    merging = mergers * merged * (merged + text["hidden_size"])
    parameters: int = layers * (4 * width**2 + matrices * width * hidden) + merging
    return parameters * value_bytes


def _parts(config: Mapping[str, Any]) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
    """The whole model's configuration, and its language model's."""
    whole = config.get("thinker_config") or config  # the Omni line nests what we look for
    return whole, whole.get("text_config") or whole


def main(models: list[str]) -> None:
    """Print the footprint of each model; exit at the first of which it cannot be told."""
    from chiasm.hub import ModelUnreadable, model_config
    from chiasm.models.builtin import named_model

    if not models:
        sys.exit("Name models: python -m chiasm.footprint MODEL ... (hub ids or folders)")
    for model in models:
        try:
            one = footprint(model_config(named_model(model)))
        except ModelUnreadable as error:
            sys.exit(str(error))
        except (KeyError, TypeError) as error:
            sys.exit(f"the configuration of {model} does not tell what an image token takes: {error!r}")
        print(f"{model}: {one.embedding} bytes of embedding, {one.kv} bytes of KV cache: {one.ratio:.1f} times")


if __name__ == "__main__":
    main(sys.argv[1:])
