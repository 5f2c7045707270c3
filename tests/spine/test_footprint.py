"""What an image token costs: the table in docs/models.md, computed from the values of the public configurations."""

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from chiasm.footprint import footprint, language_model_bytes, main, vision_tower_bytes

DOCS = Path(__file__).parents[2] / "docs" / "models.md"


def config(
    layers: int, hidden: int, heads: int, kv_heads: int, vision: dict[str, Any] | None = None, **more: Any
) -> dict[str, Any]:
    text = {"num_hidden_layers": layers, "hidden_size": hidden, "num_attention_heads": heads}
    return {"text_config": text | {"num_key_value_heads": kv_heads} | more, "vision_config": vision or {}}


# From each model's config.json on the hub.
CONFIGS = {
    "llava-hf/llava-1.5-7b-hf": config(32, 4096, 32, 32),
    "Qwen/Qwen2.5-VL-3B-Instruct": config(36, 2048, 16, 2),
    "Qwen/Qwen2.5-VL-7B-Instruct": config(28, 3584, 28, 4),
    "Qwen/Qwen2.5-VL-72B-Instruct": config(80, 8192, 64, 8),
    "Qwen/Qwen3-VL-8B-Instruct": config(36, 4096, 32, 8, {"deepstack_visual_indexes": [8, 16, 24]}, head_dim=128),
}
EXPECTED = {
    "llava-hf/llava-1.5-7b-hf": (8_192, 524_288, 64.0),
    "Qwen/Qwen2.5-VL-3B-Instruct": (4_096, 36_864, 9.0),
    "Qwen/Qwen2.5-VL-7B-Instruct": (7_168, 57_344, 8.0),
    "Qwen/Qwen2.5-VL-72B-Instruct": (16_384, 327_680, 20.0),
    "Qwen/Qwen3-VL-8B-Instruct": (32_768, 147_456, 4.5),
}


@pytest.mark.parametrize("model", CONFIGS)
def test_the_footprint_of_a_public_model(model: str) -> None:
    one = footprint(CONFIGS[model])
    assert (one.embedding, one.kv, one.ratio) == EXPECTED[model]


@pytest.mark.parametrize("model", EXPECTED)
def test_the_docs_say_the_same(model: str) -> None:
    embedding, kv, ratio = EXPECTED[model]
    rows = [line for line in DOCS.read_text().splitlines() if line.startswith(f"| {model.split('/')[1]} |")]
    assert any(row.endswith(f"| {embedding:,} | {kv:,} | {ratio:g}× |") for row in rows)


def test_layers_that_keep_no_kv_are_not_counted() -> None:
    kinds = ["linear_attention"] * 3 + ["full_attention"]
    assert footprint(config(4, 64, 4, 2, layer_types=kinds)).kv == 2 * 1 * 2 * 16 * 2


def test_the_omni_line_nests_its_configuration() -> None:
    assert footprint({"thinker_config": config(2, 64, 4, 2)}).embedding == 64 * 2


QWEN_7B = config(28, 3584, 28, 4, intermediate_size=18944, vocab_size=152_064)
QWEN_3B = config(36, 2048, 16, 2, intermediate_size=11008, vocab_size=151_936) | {"tie_word_embeddings": True}
QWEN3_30B = config(48, 2048, 32, 4, head_dim=128, intermediate_size=6144, vocab_size=151_936) | {}
QWEN3_30B["text_config"] |= {"num_experts": 128, "moe_intermediate_size": 768}


@pytest.mark.parametrize(
    ("model", "billions"), [(QWEN_7B, 7.62), (QWEN_3B, 3.09), (QWEN3_30B, 30.5)], ids=["7B", "3B, tied", "experts"]
)
def test_the_weights_of_a_language_model(model: dict[str, Any], billions: float) -> None:
    """As the models' own cards count their parameters."""
    assert language_model_bytes(model, value_bytes=1) == pytest.approx(billions * 1e9, rel=0.005)


# Of each model's vision_config on the hub.
TOWERS = {
    "Qwen2-VL-7B": (
        config(28, 3584, 28, 4, {"depth": 32, "embed_dim": 1280, "hidden_size": 3584, "mlp_ratio": 4}),
        {"hidden_act": "quick_gelu", "spatial_merge_size": 2},
        0.675,
    ),
    "Qwen2.5-VL-7B": (
        config(28, 3584, 28, 4, {"depth": 32, "hidden_size": 1280, "intermediate_size": 3420}),
        {"hidden_act": "silu", "spatial_merge_size": 2},
        0.676,
    ),
    "Qwen3-VL-8B": (
        config(36, 4096, 32, 8, {"depth": 27, "hidden_size": 1152, "intermediate_size": 4304}),
        {"hidden_act": "gelu_pytorch_tanh", "spatial_merge_size": 2, "deepstack_visual_indexes": [8, 16, 24]},
        0.576,
    ),
    "LLaVA-1.5-7B": (
        config(32, 4096, 32, 32, {"num_hidden_layers": 24, "hidden_size": 1024, "intermediate_size": 4096}),
        {"hidden_act": "quick_gelu"},
        0.303,
    ),
}


@pytest.mark.parametrize("model", TOWERS)
def test_the_weights_of_a_vision_tower(model: str) -> None:
    """In billions, as counted from the published weights."""
    values, more, billions = TOWERS[model]
    values["vision_config"] |= more
    assert vision_tower_bytes(values, value_bytes=1) == pytest.approx(billions * 1e9, rel=0.01)


def test_the_command_has_a_line_for_each_model(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """transformers, which reads the configurations, takes long to import."""
    configs = {name: SimpleNamespace(to_dict=lambda values=values: values) for name, values in CONFIGS.items()}
    monkeypatch.setattr("chiasm.hub.require_reachable", lambda *_: None)
    reader = SimpleNamespace(AutoConfig=SimpleNamespace(from_pretrained=lambda name, **_: configs[name]))
    monkeypatch.setitem(sys.modules, "transformers", reader)
    main(list(CONFIGS))
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == len(CONFIGS)
    assert "Qwen/Qwen2.5-VL-7B-Instruct: 7168 bytes of embedding, 57344 bytes of KV cache: 8.0 times" in lines
    configs["odd"] = SimpleNamespace(to_dict=lambda: {"hidden_size": 64})
    with pytest.raises(SystemExit, match="the configuration of odd does not tell"):
        main(["odd"])


def test_the_command_wants_a_model() -> None:
    with pytest.raises(SystemExit, match="Name models"):
        main([])
