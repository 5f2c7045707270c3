"""Tiny vision-language models with random weights, built in seconds: the right shapes, no knowledge.

They go through the very code paths of a real checkpoint (dynamic resolution, M-RoPE, safetensors), so a demo or a
test can compare engines token for token. It must not import vLLM.
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
)
BYTE_TOKENS = 256
TOKEN_IDS = {token: BYTE_TOKENS + index for index, token in enumerate(SPECIAL_TOKENS)}
VOCABULARY = 288  # bytes, special tokens, and room up to a multiple of 32

CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n"
    "{% if message.content is string %}{{ message.content }}{% else %}{% for part in message.content %}"
    "{% if part.type == 'text' %}{{ part.text }}"
    "{% else %}<|vision_start|>{% if 'video' in part.type %}<|video_pad|>{% else %}<|image_pad|>{% endif %}"
    "<|vision_end|>{% endif %}{% endfor %}{% endif %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


class Family(StrEnum):
    """Architectures that can be built."""

    QWEN2_VL = "qwen2_vl"
    QWEN2_5_VL = "qwen2_5_vl"
    QWEN3_VL = "qwen3_vl"  # DeepStack: its embeddings are several times wider than the language model


def build_tiny_model(folder: Path, family: Family = Family.QWEN2_5_VL, seed: int = 0) -> Path:
    """Write the model to `folder`, and return it. Nothing is done where it already stands.

    Under a million parameters in float32, drawn wide enough that greedy answers depend on the picture. An image token
    is a cell of 28 x 28 pixels (32 x 32 for Qwen3-VL), as in the real checkpoints.
    """
    if (folder / "config.json").exists():
        return folder
    import torch
    from transformers import AutoModelForImageTextToText
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()  # it is a matter of milliseconds
    torch.manual_seed(seed)
    model = AutoModelForImageTextToText.from_config(_config(family))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.ndim > 1:
                parameter.normal_(0.0, 1.5 / parameter[0].numel() ** 0.5)
            elif name.endswith("bias"):
                parameter.zero_()
    model.generation_config.eos_token_id = TOKEN_IDS["<|im_end|>"]
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as elsewhere:
        unfinished = Path(elsewhere) / folder.name
        _processor(family).save_pretrained(unfinished)
        model.save_pretrained(unfinished)
        unfinished.rename(folder)  # at once, so that what stands there is always whole
    return folder


def _config(family: Family) -> Any:
    from transformers import Qwen2_5_VLConfig, Qwen2VLConfig, Qwen3VLConfig

    text = {
        "vocab_size": VOCABULARY,
        "hidden_size": 128,
        "intermediate_size": 256,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 32,
        "max_position_embeddings": 8192,
        "rope_parameters": {"rope_type": "default", "mrope_section": [4, 6, 6], "rope_theta": 10_000.0},
        "tie_word_embeddings": False,
        "bos_token_id": TOKEN_IDS["<|endoftext|>"],
        "eos_token_id": TOKEN_IDS["<|im_end|>"],
    }
    common = {
        "text_config": text,
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


def _processor(family: Family) -> Any:
    from transformers import (
        PreTrainedTokenizerFast,
        Qwen2_5_VLProcessor,
        Qwen2VLImageProcessor,
        Qwen2VLProcessor,
        Qwen2VLVideoProcessor,
        Qwen3VLProcessor,
        Qwen3VLVideoProcessor,
    )

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE(vocab={symbol: index for index, symbol in enumerate(alphabet)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(list(SPECIAL_TOKENS))  # in order, after the bytes
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        clean_up_tokenization_spaces=False,
    )
    patch = 16 if family is Family.QWEN3_VL else 14
    cell = (2 * patch) ** 2
    images = Qwen2VLImageProcessor(patch_size=patch, min_pixels=4 * cell, max_pixels=1024 * cell)
    processors = {
        Family.QWEN2_VL: (Qwen2VLProcessor, Qwen2VLVideoProcessor),
        Family.QWEN2_5_VL: (Qwen2_5_VLProcessor, Qwen2VLVideoProcessor),
        Family.QWEN3_VL: (Qwen3VLProcessor, Qwen3VLVideoProcessor),
    }
    processor, videos = processors[family]
    return processor(image_processor=images, tokenizer=fast, video_processor=videos(), chat_template=CHAT_TEMPLATE)
