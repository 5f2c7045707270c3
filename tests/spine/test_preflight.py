"""The fingerprint of a model, and what preflight says of models that cannot be split."""

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from chiasm.cli import text_engine_memory, whole_model
from chiasm.families import FAMILIES
from chiasm.preflight import PreflightFailed, check_model, fingerprint

REPORT = {
    "architecture": "Qwen2_5_VLForConditionalGeneration",
    "revision": "r",
    "pixels_per_token": 784,
    "image_tokens": [1, 4096],
    "image_pixels": [3136, 802816],
    "max_model_len": 4096,
    "metadata_fields": ["image_grid_thw"],
    "deepstack": False,
    "multimodal": True,
    "tower": "qwen2_5_vl",
    "language_model_bytes": 15_230_000_000,
    "vision_tower_bytes": 1_350_000_000,
    "kv_token_bytes": 57_344,
    "kv_cache_bytes": 4_000_000_000,
    "sampling": {"temperature": 0.1},
    "longest_answer": 100,
}


def vllm_says(monkeypatch: pytest.MonkeyPatch, returncode: int = 0, stderr: str = "", **changes: Any) -> None:
    stdout = "some chatter\n" + json.dumps(REPORT | changes) + "\n"
    answer = subprocess.CompletedProcess([], returncode, stdout, stderr)
    monkeypatch.setattr(subprocess, "run", lambda *_args, **_kwargs: answer)
    monkeypatch.setattr("chiasm.preflight.require_reachable", lambda *_: None)


def test_a_model_that_can_be_split(monkeypatch: pytest.MonkeyPatch) -> None:
    vllm_says(monkeypatch)
    facts = check_model("org/model", None, None, [])
    assert (facts.name, facts.metadata_fields) == ("org/model", ("image_grid_thw",))
    assert facts.image_tokens == (1, 4096)
    assert (facts.sampling, facts.longest_answer) == ({"temperature": 0.1}, 100)
    assert facts.image_pixels == (3136, 802_816)
    assert text_engine_memory(facts) == "the language model (15.23 GB) and a KV cache (4.00 GB for up to 69,754 tokens)"
    assert whole_model(facts) == "both halves of the model (16.58 GB)"


def test_what_the_configuration_does_not_tell_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    vllm_says(monkeypatch, language_model_bytes=None, kv_token_bytes=None)
    assert text_engine_memory(check_model("m", None, None, [])) == "the language model and a KV cache (4.00 GB)"
    vllm_says(monkeypatch, vision_tower_bytes=None)
    assert whole_model(check_model("m", None, None, [])) == "both halves of the model"
    vllm_says(monkeypatch, kv_cache_bytes=None)
    assert text_engine_memory(check_model("m", None, None, [])) == "the language model (15.23 GB) and a KV cache"


@pytest.mark.parametrize(
    ("architecture", "tower"),
    [
        ("Gemma3ForConditionalGeneration", "siglip_vision_model"),
        ("InternVLChatModel", "intern_vit_6b"),
        ("LlavaForConditionalGeneration", "pixtral"),
        ("MllamaForConditionalGeneration", None),
    ],
)
def test_a_family_that_cannot_be_split_is_refused_by_name(
    monkeypatch: pytest.MonkeyPatch, architecture: str, tower: str | None
) -> None:
    """By its own name, with the reason and with what to do: serve it unsplit, or one of those that can be."""
    vllm_says(monkeypatch, architecture=architecture, tower=tower, metadata_fields=[])
    with pytest.raises(PreflightFailed, match="embedding_fields") as refusal:
        check_model("org/model", None, None, [])
    said = str(refusal.value)
    assert all(word in said for word in ("org/model", architecture, tower or "", "unsplit with vLLM", *FAMILIES))


@pytest.mark.parametrize(
    ("architecture", "refused"),
    [
        ("Qwen3VLForConditionalGeneration", False),
        ("BailingMoeV3VLForConditionalGeneration", False),  # its configuration names levels that its tower lacks
        ("Qwen3OmniMoeForConditionalGeneration", True),
    ],
)
def test_deepstack_is_for_those_that_we_taught_it(
    monkeypatch: pytest.MonkeyPatch, architecture: str, refused: bool
) -> None:
    vllm_says(monkeypatch, architecture=architecture, deepstack=True)
    if refused:
        with pytest.raises(PreflightFailed, match="DeepStack"):
            check_model("m", None, None, [])
    else:
        assert check_model("m", None, None, []).architecture == architecture


def test_a_text_model_is_told_from_one_that_cannot_be_split(monkeypatch: pytest.MonkeyPatch) -> None:
    vllm_says(monkeypatch, multimodal=False, metadata_fields=[])
    with pytest.raises(PreflightFailed, match="takes no images"):
        check_model("llama", None, None, [])


def test_a_folder_that_is_no_model_is_refused_at_once(tmp_path: Path) -> None:
    with pytest.raises(PreflightFailed, match=r"config\.json"):
        check_model(str(tmp_path), None, None, [])


def test_what_vllm_cannot_read_is_said_in_its_words(monkeypatch: pytest.MonkeyPatch) -> None:
    vllm_says(monkeypatch, returncode=1, stderr="Traceback\nOSError: no such model\n")
    with pytest.raises(PreflightFailed, match="no such model"):
        check_model("nowhere", None, None, [])


def test_a_fingerprint_tells_weights_apart_and_not_places(tmp_path: Path) -> None:
    for name, weights in (("a", b"1" * 100), ("b", b"1" * 100), ("c", b"1" * 99 + b"2")):
        folder = tmp_path / name
        folder.mkdir()
        (folder / "config.json").write_text("{}")
        (folder / "model.safetensors").write_bytes(weights)
        (folder / "README.md").write_text(name)
    prints = [fingerprint(str(tmp_path / name), "float32", None) for name in "abc"]
    assert prints[0] == prints[1]
    assert prints[0] != prints[2]
    assert prints[0] != fingerprint(str(tmp_path / "a"), "bfloat16", None)
