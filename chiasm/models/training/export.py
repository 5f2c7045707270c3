"""Write a trained `pupil` as a model folder that transformers and vLLM load as any Qwen2.5-VL:
`python -m chiasm.models.training.export CHECKPOINT FOLDER`.
"""

import argparse
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer
from transformers import (
    GenerationConfig,
    PreTrainedTokenizerFast,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2_5_VLProcessor,
    Qwen2VLImageProcessor,
    Qwen2VLVideoProcessor,
)

from chiasm.models.training.network import Pupil
from chiasm.models.training.shape import MERGE, PATCH, Shape
from chiasm.models.training.sight import MAX_PIXELS, MIN_PIXELS
from chiasm.models.training.train import TOKENIZER, School
from chiasm.models.training.vocabulary import CHAT_TEMPLATE, Words

MAX_POSITIONS = 8192


def export(pupil: Pupil, shape: Shape, tokenizer: Tokenizer, folder: Path) -> None:
    """Weights in float32, configuration, processor and chat template."""
    folder.mkdir(parents=True, exist_ok=True)
    words = Words(tokenizer)
    model = Qwen2_5_VLForConditionalGeneration(_config(shape, words))
    model.load_state_dict(pupil.checkpoint())
    # One candidate only, so that who asks for no temperature gets the likeliest answer: vLLM samples otherwise.
    model.generation_config = GenerationConfig(
        do_sample=True, top_k=1, bos_token_id=words.pad, pad_token_id=words.pad, eos_token_id=[words.end, words.pad]
    )
    model.save_pretrained(folder)
    (folder / "model.safetensors").chmod(0o644)
    _processor(tokenizer).save_pretrained(folder)


def _config(shape: Shape, words: Words) -> Any:
    text = {
        "vocab_size": shape.vocabulary,
        "hidden_size": shape.width,
        "intermediate_size": shape.mlp,
        "num_hidden_layers": shape.text_layers,
        "num_attention_heads": shape.heads,
        "num_key_value_heads": shape.kv_heads,
        "head_dim": shape.head,
        "max_position_embeddings": MAX_POSITIONS,
        "rope_parameters": {
            "rope_type": "default",
            "mrope_section": list(shape.mrope_section),
            "rope_theta": shape.rope_theta,
        },
        "tie_word_embeddings": False,
        "bos_token_id": words.pad,
        "eos_token_id": words.end,
        "pad_token_id": words.pad,
    }
    vision = {
        "depth": shape.vision_layers,
        "hidden_size": shape.vision_width,
        "intermediate_size": shape.vision_mlp,
        "num_heads": shape.heads,
        "out_hidden_size": shape.width,
        "patch_size": PATCH,
        "spatial_merge_size": MERGE,
        "temporal_patch_size": 2,
        "fullatt_block_indexes": list(range(shape.vision_layers)),
        "window_size": 4 * PATCH * MERGE,
    }
    return Qwen2_5_VLConfig(
        text_config=text,
        vision_config=vision,
        image_token_id=words.image,
        video_token_id=words.video,
        vision_start_token_id=words.vision_start,
        vision_end_token_id=words.vision_end,
        tie_word_embeddings=False,
        dtype="float32",
    )


def _processor(tokenizer: Tokenizer) -> Any:
    words = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        clean_up_tokenization_spaces=False,
        model_max_length=MAX_POSITIONS,
    )
    half = [0.5, 0.5, 0.5]
    images = Qwen2VLImageProcessor(
        patch_size=PATCH, min_pixels=MIN_PIXELS, max_pixels=MAX_PIXELS, image_mean=half, image_std=half
    )
    return Qwen2_5_VLProcessor(
        image_processor=images,
        tokenizer=words,
        video_processor=Qwen2VLVideoProcessor(),
        chat_template=CHAT_TEMPLATE,
    )


def main() -> None:
    """Export one checkpoint of the trainer."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("folder", type=Path)
    options = parser.parse_args()
    school = School()
    school.load_state_dict(torch.load(options.checkpoint, weights_only=True))
    tokenizer = Tokenizer.from_file(str(options.checkpoint.parent / TOKENIZER))
    export(school.pupil, Shape(), tokenizer, options.folder)


if __name__ == "__main__":
    main()
