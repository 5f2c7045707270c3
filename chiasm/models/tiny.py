"""Tiny vision-language models with random weights, built in seconds: the right shapes, no knowledge.

They go through the very code paths of a real checkpoint (dynamic resolution, M-RoPE, safetensors), so a test can
compare engines token for token. It must not import vLLM.
"""

import tempfile
from enum import StrEnum
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer, decoders, models, pre_tokenizers

SPECIAL_TOKENS = (
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|vision_start|>",
    "<|vision_end|>",
    "<|vision_pad|>",
    "<|image_pad|>",
    "<|video_pad|>",
    "<image>",  # LLaVA-1.5's
    "<img>",  # from here on InternVL's
    "</img>",
    "<IMG_CONTEXT>",
    "<video>",
)
BYTE_TOKENS = 256
TOKEN_IDS = {token: BYTE_TOKENS + index for index, token in enumerate(SPECIAL_TOKENS)}
TILE = 56  # pixels a side of a picture as the towers of LLaVA-1.5 and InternVL see it
VOCABULARY = 288  # bytes, special tokens, and room up to a multiple of 32

CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n"
    "{% if message.content is string %}{{ message.content }}{% else %}{% for part in message.content %}"
    "{% if part.type == 'text' %}{{ part.text }}{% elif 'video' in part.type %}VIDEO{% else %}IMAGE{% endif %}"
    "{% endfor %}{% endif %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
"""VIDEO and IMAGE stand for what a family writes there."""


class Family(StrEnum):
    """Architectures that can be built."""

    QWEN2_VL = "qwen2_vl"
    QWEN2_5_VL = "qwen2_5_vl"
    QWEN3_VL = "qwen3_vl"  # DeepStack: its embeddings are several times wider than the language model
    LLAVA_1_5 = "llava_1_5"  # every picture has as many tokens
    INTERNVL = "internvl"  # tokens by tiles, between brackets


def build_tiny_model(folder: Path, family: Family = Family.QWEN2_5_VL, seed: int = 0) -> Path:
    """Write the model to `folder`, and return it. Nothing is done where it already stands.

    Under a million parameters in float32, drawn wide enough that greedy answers depend on the picture. In the Qwen
    families an image token is a cell of 28 x 28 pixels (32 x 32 for Qwen3-VL), as in the real checkpoints; LLaVA-1.5's
    pictures have 16 tokens, InternVL's 4 for each tile of 56 x 56 pixels.
    """
    if (folder / "config.json").exists():
        return folder
    import torch
    from transformers import AutoModelForImageTextToText
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()  # it is a matter of milliseconds
    torch.manual_seed(seed)
    model = AutoModelForImageTextToText.from_config(_config(family))
    draw_weights(model)
    model.generation_config.eos_token_id = TOKEN_IDS["<|im_end|>"]
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as elsewhere:
        unfinished = Path(elsewhere) / folder.name
        build_processor(family).save_pretrained(unfinished)
        _save(model, family, unfinished)
        unfinished.rename(folder)  # at once, so that what stands there is always whole
    return folder


def draw_weights(model: Any) -> None:
    """Fill a model with random weights, wide enough that an answer depends on its prompt. Seed torch before."""
    import torch

    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.ndim > 1:
                parameter.normal_(0.0, 1.5 / parameter[0].numel() ** 0.5)
            elif name.endswith("bias"):
                parameter.zero_()


def _save(model: Any, family: Family, folder: Path) -> None:
    from safetensors.torch import load_file, save_file

    model.save_pretrained(folder)
    if family is Family.LLAVA_1_5:
        # The hub's checkpoints have a level more in the tower's names than transformers 5 writes, and vLLM wants it.
        path = folder / "model.safetensors"
        weights = load_file(path)
        hub = {name.replace("vision_tower.", "vision_tower.vision_model."): weights[name] for name in weights}
        save_file(hub, path, metadata={"format": "pt"})


def _config(family: Family) -> Any:
    if family is Family.LLAVA_1_5:
        return _llava_config()
    if family is Family.INTERNVL:
        return _internvl_config()
    return _qwen_config(family)


def _text_config(rope: dict[str, Any]) -> dict[str, Any]:
    return {
        "vocab_size": VOCABULARY,
        "hidden_size": 128,
        "intermediate_size": 256,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 32,
        "max_position_embeddings": 8192,
        "rope_parameters": {"rope_type": "default", "rope_theta": 10_000.0, **rope},
        "tie_word_embeddings": False,
        "bos_token_id": TOKEN_IDS["<|endoftext|>"],
        "eos_token_id": TOKEN_IDS["<|im_end|>"],
    }


def _llava_config() -> Any:
    from transformers import LlavaConfig

    vision = {
        "model_type": "clip_vision_model",
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": 3,  # the last one is not used
        "num_attention_heads": 2,
        "image_size": TILE,
        "patch_size": 14,
    }
    return LlavaConfig(
        vision_config=vision,
        text_config={"model_type": "llama", **_text_config(rope={})},
        image_token_id=TOKEN_IDS["<image>"],
        image_seq_length=(TILE // 14) ** 2,
        tie_word_embeddings=False,
        dtype="float32",
    )


def _internvl_config() -> Any:
    from transformers import InternVLConfig

    vision = {
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "image_size": [TILE, TILE],
        "patch_size": [14, 14],
    }
    return InternVLConfig(
        vision_config=vision,
        text_config={"model_type": "qwen2", **_text_config(rope={})},
        image_token_id=TOKEN_IDS["<IMG_CONTEXT>"],
        image_seq_length=(TILE // 28) ** 2,
        tie_word_embeddings=False,
        dtype="float32",
    )


def _qwen_config(family: Family) -> Any:
    from transformers import Qwen2_5_VLConfig, Qwen2VLConfig, Qwen3VLConfig

    common = {
        "text_config": _text_config(rope={"mrope_section": [4, 6, 6]}),
        "image_token_id": TOKEN_IDS["<|image_pad|>"],
        "video_token_id": TOKEN_IDS["<|video_pad|>"],
        "vision_start_token_id": TOKEN_IDS["<|vision_start|>"],
        "vision_end_token_id": TOKEN_IDS["<|vision_end|>"],
        "tie_word_embeddings": False,
        "dtype": "float32",
    }
    vision: dict[str, Any] = {"depth": 2, "num_heads": 2, "spatial_merge_size": 2, "temporal_patch_size": 2}
    if family is Family.QWEN2_VL:
        vision |= {"embed_dim": 64, "hidden_size": 128, "mlp_ratio": 2, "patch_size": 14}
        return Qwen2VLConfig(**common, vision_config=vision)
    vision |= {"hidden_size": 64, "intermediate_size": 128, "out_hidden_size": 128}
    if family is Family.QWEN2_5_VL:
        vision |= {"patch_size": 14, "window_size": 112, "fullatt_block_indexes": [1]}
        return Qwen2_5_VLConfig(**common, vision_config=vision)
    vision |= {"patch_size": 16, "num_position_embeddings": 256, "deepstack_visual_indexes": [0, 1]}
    return Qwen3VLConfig(**common, vision_config=vision)


def build_processor(family: Family) -> Any:
    """Tokenizer (bytes), chat template and image processor: what goes with a model of that family."""
    if family is Family.LLAVA_1_5:
        return _llava_processor()
    if family is Family.INTERNVL:
        return _internvl_processor()
    return _qwen_processor(family)


def _chat_template(image: str, video: str = "") -> str:
    return CHAT_TEMPLATE.replace("IMAGE", image).replace("VIDEO", video)


def _tokenizer(**named: str) -> Any:
    from transformers import PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE(vocab={symbol: index for index, symbol in enumerate(alphabet)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(list(SPECIAL_TOKENS))  # in order, after the bytes
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        clean_up_tokenization_spaces=False,
        extra_special_tokens=named,
    )


def _llava_processor() -> Any:
    from transformers import CLIPImageProcessor, LlavaProcessor

    size = {"height": TILE, "width": TILE}
    return LlavaProcessor(
        image_processor=CLIPImageProcessor(size={"shortest_edge": TILE}, crop_size=size),
        tokenizer=_tokenizer(),
        patch_size=14,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,  # the tower's class token, which the strategy leaves out again
        chat_template=_chat_template("<image>"),
    )


def _internvl_processor() -> Any:
    from transformers import GotOcr2ImageProcessor, InternVLProcessor, InternVLVideoProcessor

    size = {"height": TILE, "width": TILE}
    return InternVLProcessor(
        image_processor=GotOcr2ImageProcessor(size=size, crop_to_patches=True, max_patches=6),
        video_processor=InternVLVideoProcessor(size=size),
        tokenizer=_tokenizer(
            start_image_token="<img>",
            end_image_token="</img>",
            context_image_token="<IMG_CONTEXT>",
            video_token="<video>",
        ),
        image_seq_length=(TILE // 28) ** 2,
        chat_template=_chat_template("<IMG_CONTEXT>", "<video>"),
    )


def _qwen_processor(family: Family) -> Any:
    from transformers import (
        Qwen2_5_VLProcessor,
        Qwen2VLImageProcessor,
        Qwen2VLProcessor,
        Qwen2VLVideoProcessor,
        Qwen3VLProcessor,
        Qwen3VLVideoProcessor,
    )

    patch = 16 if family is Family.QWEN3_VL else 14
    cell = (2 * patch) ** 2
    processors = {
        Family.QWEN2_VL: (Qwen2VLProcessor, Qwen2VLVideoProcessor),
        Family.QWEN2_5_VL: (Qwen2_5_VLProcessor, Qwen2VLVideoProcessor),
        Family.QWEN3_VL: (Qwen3VLProcessor, Qwen3VLVideoProcessor),
    }
    processor, videos = processors[family]
    return processor(
        image_processor=Qwen2VLImageProcessor(patch_size=patch, min_pixels=4 * cell, max_pixels=1024 * cell),
        video_processor=videos(),
        tokenizer=_tokenizer(),
        chat_template=_chat_template(
            "<|vision_start|><|image_pad|><|vision_end|>", "<|vision_start|><|video_pad|><|vision_end|>"
        ),
    )
