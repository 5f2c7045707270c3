"""`make train-pupil` in small: every stage for one step, and the model folder that comes of it."""

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.engine, pytest.mark.timeout(300)]  # no engine, but torch and transformers take seconds


def run(module: str, *arguments: str | Path) -> str:
    command = [sys.executable, "-m", f"chiasm.models.training.{module}", *map(str, arguments)]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


def test_training_ends_in_a_model_that_transformers_loads(tmp_path: Path) -> None:
    school, folder = tmp_path / "school", tmp_path / "model"
    from chiasm.models.training.train import STAGES

    told = run("train", "--out", school, "--steps", "1")
    assert [line.split(":")[0] for line in told.splitlines()] == list(STAGES)
    run("export", school / "settling.pt", folder)

    from transformers import AutoModelForImageTextToText, AutoProcessor

    processor = AutoProcessor.from_pretrained(folder)
    model = AutoModelForImageTextToText.from_pretrained(folder)
    prompt = processor.apply_chat_template([{"role": "user", "content": "Who are you?"}], add_generation_prompt=True)
    answer = model.generate(**processor(text=[prompt], return_tensors="pt"), max_new_tokens=4)
    assert answer.shape[0] == 1


def test_a_stage_that_goes_on_must_be_told_from_where(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "chiasm.models.training.train", "--out", str(tmp_path), "--stage", "settling"]
    refused = subprocess.run(command, check=False, capture_output=True, text=True, timeout=200)
    assert refused.returncode == 2
    assert "name it with --start" in refused.stderr
