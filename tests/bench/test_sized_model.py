"""A model in the shape of a public checkpoint, here of a much smaller one."""

from pathlib import Path

import pytest

from bench import sized_model
from bench.phase_sizes import CONFIGS
from bench.sized_model import UNTIED, build_sized_model
from chiasm.models.tiny import TOKEN_IDS

pytestmark = pytest.mark.slow


def test_a_folder_has_all_that_an_engine_needs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch
    from safetensors.torch import load_file
    from transformers import AutoConfig, AutoProcessor

    assert UNTIED == ["qwen2.5-vl-7b"]
    size = CONFIGS["qwen2.5-vl-7b"]
    text = size["text_config"] | {"num_hidden_layers": 2, "intermediate_size": 64, "vocab_size": 512}
    tower = size["vision_config"] | {"depth": 2, "intermediate_size": 64, "fullatt_block_indexes": [1]}
    monkeypatch.setitem(sized_model.CONFIGS, "small", size | {"text_config": text, "vision_config": tower})
    build_sized_model("small", tmp_path / "small", "cpu")
    config = AutoConfig.from_pretrained(tmp_path / "small")
    assert (config.dtype, config.text_config.hidden_size) == (torch.bfloat16, 3584)
    assert config.image_token_id == TOKEN_IDS["<|image_pad|>"]
    assert AutoProcessor.from_pretrained(tmp_path / "small").tokenizer("a").input_ids
    weights = load_file(tmp_path / "small" / "model.safetensors")
    assert {tensor.dtype for tensor in weights.values()} == {torch.bfloat16}
    rows = weights["lm_head.weight"].any(dim=1)
    assert rows[:94].all()
    assert not rows[94:].any()
