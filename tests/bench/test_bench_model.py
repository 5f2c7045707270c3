"""The bench model: its proportions, and that its answers are text without an end."""

from pathlib import Path

import pytest
import torch

import bench.model
from bench.model import TEXT, VISION, build_bench_model, random_model

pytestmark = pytest.mark.slow


def test_tower_and_language_model_stand_to_each_other_as_in_the_3b_checkpoint() -> None:
    with torch.device("meta"):
        model = random_model(VISION)
    tower = sum(parameter.numel() for name, parameter in model.named_parameters() if "visual" in name)
    language = model.num_parameters() - tower
    assert 90e6 < language < 110e6
    assert tower / language == pytest.approx(668.7e6 / 3085.9e6, rel=0.05)


def test_greedy_answers_are_printable_and_go_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(bench.model, "TEXT", TEXT | {"num_hidden_layers": 1})
    monkeypatch.setattr(bench.model, "VISION", VISION | {"depth": 1, "fullatt_block_indexes": [0]})
    folder = build_bench_model()
    before = (folder / "model.safetensors").stat().st_mtime_ns
    assert build_bench_model() == folder
    assert (folder / "model.safetensors").stat().st_mtime_ns == before  # it stands already
    from transformers import AutoModelForImageTextToText, AutoProcessor

    processor = AutoProcessor.from_pretrained(folder)
    model = AutoModelForImageTextToText.from_pretrained(folder)
    answers = set()
    for question in ("One?", "Two?"):
        ids = processor.tokenizer(f"<|im_start|>user\n{question}<|im_end|>", return_tensors="pt")["input_ids"]
        answer = model.generate(ids, max_new_tokens=20, do_sample=False)[0, ids.shape[1] :]
        text = processor.decode(answer)
        assert len(text) == 20
        assert text.isascii()
        assert text.isprintable()
        answers.add(text)
    assert len(answers) == 2
