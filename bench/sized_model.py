"""A public checkpoint's shape with random weights, for engines on a GPU.

    python -m bench.sized_model qwen2.5-vl-7b FOLDER

Weights are in bfloat16 and drawn on the GPU. The vocabulary has as many tokens as the checkpoint's, and prompts are of
bytes, so that nothing is downloaded; answers are of printable characters.
"""

import sys
from pathlib import Path
from typing import Any

from bench.model import SPECIAL, drawn
from bench.phase_sizes import CONFIGS
from chiasm.models.tiny import TOKEN_IDS, Family, build_processor

UNTIED = [name for name, config in CONFIGS.items() if not config["tie_word_embeddings"]]  # see `bench.model.drawn`


def build_sized_model(name: str, folder: Path, device: str = "cuda") -> None:
    """Write the model of that size to `folder`, which must not exist."""
    folder.mkdir(parents=True)
    build_processor(Family.QWEN2_5_VL).save_pretrained(folder)
    drawn(_configuration(name), device).save_pretrained(folder)


def _configuration(name: str) -> Any:
    import torch  # noqa: F401  # before transformers: see chiasm.plugins.repair_torch_companions
    from transformers import Qwen2_5_VLConfig

    size = CONFIGS[name]
    ends = {"bos_token_id": TOKEN_IDS["<|endoftext|>"], "eos_token_id": TOKEN_IDS["<|im_end|>"]}
    return Qwen2_5_VLConfig(**{**size, "text_config": size["text_config"] | ends}, **SPECIAL, dtype="bfloat16")


if __name__ == "__main__":
    if len(sys.argv) != 3 or sys.argv[1] not in UNTIED:
        sys.exit(f"usage: python -m bench.sized_model {'|'.join(UNTIED)} FOLDER")
    build_sized_model(sys.argv[1], Path(sys.argv[2]))
    print(f"{sys.argv[2]}: {sys.argv[1]} with random weights")
