"""The matrices of a vision-language model, read from its configuration (`config.json`, every field of it present).

For Qwen2-VL, Qwen2.5-VL (and so the built-in model), dense Qwen3-VL, and LLaVA-1.5. Norms, biases and tables of
positions are left out: some thousandths of a real checkpoint. Pure.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

KNOWN = ("qwen2_vl", "qwen2_5_vl", "qwen3_vl", "llava")


@dataclass(frozen=True)
class Matrix:
    """The weights of a linear layer."""

    inputs: int
    outputs: int

    @property
    def parameters(self) -> int:
        """Its size."""
        return self.inputs * self.outputs


def parameters(matrices: tuple[Matrix, ...]) -> int:
    """The size of all."""
    return sum(matrix.parameters for matrix in matrices)


@dataclass(frozen=True)
class Tower:
    """A vision tower, and what makes image tokens of its output.

    `window` is the side, in merged cells, of the windows that attention is confined to, but for `full_layers` of the
    layers; 0 where all layers attend to the whole image.
    """

    width: int
    layers: int
    full_layers: int
    window: int
    merge: int  # side, in patches, of what becomes one image token
    class_tokens: int  # that go through the layers beside an image's patches
    patch: Matrix  # from pixels to the first layer
    layer: tuple[Matrix, ...]  # of one layer
    merger: tuple[Matrix, ...]  # applied to every image token, all levels of DeepStack counted
    out_width: int  # of an image token, all levels side by side

    @property
    def parameters(self) -> int:
        """Weights that an encode reads."""
        return self.patch.parameters + self.layers * parameters(self.layer) + parameters(self.merger)


@dataclass(frozen=True)
class Language:
    """A language model."""

    width: int
    layers: int
    heads: int
    kv_heads: int
    head_size: int
    layer: tuple[Matrix, ...]  # of one layer
    head: Matrix  # to the vocabulary

    @property
    def parameters(self) -> int:
        """Weights that every step reads, so without the table of input embeddings, of which it reads a few rows."""
        return self.layers * parameters(self.layer) + self.head.parameters

    @property
    def kv_values(self) -> int:
        """Numbers that the KV cache keeps of one token."""
        return 2 * self.layers * self.kv_heads * self.head_size


def tower_of(config: Mapping[str, Any]) -> Tower:
    """The tower of a model with this configuration.

    Raises:
        ValueError: the formulas do not know its architecture, or it has no tower.
    """
    text = _text_of(config)
    vision = config.get("vision_config")
    if not vision:
        raise ValueError(f"this {config['model_type']} model has no vision tower: it has no vision_config")
    if config["model_type"] == "llava":
        return _clip(config, vision, text)
    width = vision.get("embed_dim") or vision["hidden_size"]  # Qwen2-VL's hidden_size is that of the language model
    hidden = vision.get("intermediate_size") or int(width * vision["mlp_ratio"])
    gated = vision["hidden_act"] == "silu"
    side, merge, layers = vision["patch_size"], vision["spatial_merge_size"], vision["depth"]
    windowed = "fullatt_block_indexes" in vision
    merged = width * merge**2
    mergers = 1 + len(vision.get("deepstack_visual_indexes") or ())
    return Tower(
        width=width,
        layers=layers,
        full_layers=len(set(vision["fullatt_block_indexes"])) if windowed else layers,
        window=vision["window_size"] // merge // side if windowed else 0,
        merge=merge,
        class_tokens=0,
        patch=Matrix(vision.get("in_channels", 3) * vision["temporal_patch_size"] * side**2, width),
        layer=(Matrix(width, 3 * width), Matrix(width, width), *_feed_forward(width, hidden, gated)),
        merger=(Matrix(merged, merged), Matrix(merged, text["hidden_size"])) * mergers,
        out_width=text["hidden_size"] * mergers,
    )


def language_of(config: Mapping[str, Any]) -> Language:
    """The language model of a model with this configuration.

    Raises:
        ValueError: the formulas do not know its architecture.
    """
    text = _text_of(config)
    width, heads = text["hidden_size"], text["num_attention_heads"]
    kv_heads = text.get("num_key_value_heads") or heads
    head_size = text.get("head_dim") or width // heads
    attention = (
        Matrix(width, heads * head_size),
        Matrix(width, kv_heads * head_size),
        Matrix(width, kv_heads * head_size),
        Matrix(heads * head_size, width),
    )
    return Language(
        width=width,
        layers=text["num_hidden_layers"],
        heads=heads,
        kv_heads=kv_heads,
        head_size=head_size,
        layer=(*attention, *_feed_forward(width, text["intermediate_size"], gated=True)),
        head=Matrix(width, text["vocab_size"]),
    )


def _text_of(config: Mapping[str, Any]) -> Mapping[str, Any]:
    kind = config.get("model_type")
    if kind not in KNOWN:
        raise ValueError(f"FLOPs and bytes are not known of {kind} models. Known are: {', '.join(KNOWN)}")
    text: Mapping[str, Any] = config.get("text_config") or config
    return text


def _clip(config: Mapping[str, Any], vision: Mapping[str, Any], text: Mapping[str, Any]) -> Tower:
    width, out, layers = vision["hidden_size"], text["hidden_size"], vision["num_hidden_layers"]
    used = config["vision_feature_layer"]  # -2: the output of the last layer but one, so that the last is not needed
    if not isinstance(used, int):
        raise ValueError("FLOPs and bytes are not known of LLaVA models that use several layers of their tower")
    run = layers + 1 + used if used < 0 else used
    return Tower(
        width=width,
        layers=run,
        full_layers=run,
        window=0,
        merge=1,
        class_tokens=1,
        patch=Matrix(vision.get("num_channels", 3) * vision["patch_size"] ** 2, width),
        layer=(
            *(Matrix(width, width),) * 4,
            *_feed_forward(width, vision["intermediate_size"], gated=False),
        ),
        merger=(Matrix(width, out), Matrix(out, out)),
        out_width=out,
    )


def _feed_forward(width: int, hidden: int, gated: bool) -> tuple[Matrix, ...]:
    return (Matrix(width, hidden),) * (2 if gated else 1) + (Matrix(hidden, width),)
