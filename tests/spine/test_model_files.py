"""Whether a host has the model that the cluster was started with."""

from pathlib import Path

import pytest

from chiasm.model_files import SAMPLE_BYTES, fault_of, files_digest


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return a_copy(tmp_path / "m")


def a_copy(folder: Path) -> Path:
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(bytes(3 * SAMPLE_BYTES))
    return folder


def test_a_copy_elsewhere_is_the_same_whatever_lies_beside_it(model: Path, tmp_path: Path) -> None:
    copy = a_copy(tmp_path / "copy")
    (copy / "README.md").write_text("copied")
    assert fault_of(str(copy), files_digest(model)) is None


@pytest.mark.parametrize("place", [0, 3 * SAMPLE_BYTES - 1])
def test_other_weights_are_told_by_their_beginning_and_their_end(model: Path, tmp_path: Path, place: int) -> None:
    other = a_copy(tmp_path / "other")
    with (other / "model.safetensors").open("r+b") as weights:
        weights.seek(place)
        weights.write(b"1")
    fault = fault_of(str(other), files_digest(model))
    assert fault == f"{other} on this host is not what it is where `chiasm serve` runs. Copy it anew"


@pytest.mark.parametrize("name", ["tokenizer.model", "qwen.tiktoken", "modeling_m.py", "chat_template.jinja"])
def test_tokenizers_templates_and_code_count(model: Path, tmp_path: Path, name: str) -> None:
    (model / name).write_text("ours")
    other = a_copy(tmp_path / "other")
    (other / name).write_text("theirs")
    assert fault_of(str(other), files_digest(model)) is not None


def test_a_copy_that_is_not_complete_is_told(model: Path, tmp_path: Path) -> None:
    part = a_copy(tmp_path / "part")
    (part / "config.json").unlink()
    assert fault_of(str(part), files_digest(model)) is not None


def test_a_host_without_it_is_told_where_it_belongs(model: Path, tmp_path: Path) -> None:
    fault = fault_of(str(tmp_path / "absent"), files_digest(model))
    assert fault is not None
    assert f"there is no {tmp_path}/absent on this host to be read" in fault
    assert "Put it at this path on every host" in fault


def test_a_model_of_the_hub_has_no_folder_to_look_at() -> None:
    assert fault_of("Qwen/Qwen2.5-VL-7B-Instruct", "") is None
