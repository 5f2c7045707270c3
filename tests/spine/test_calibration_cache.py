"""What is kept of measured steps, and how far a file is believed."""

from pathlib import Path
from typing import Any

import msgspec
import pytest

from chiasm.calibration import Step
from chiasm.calibration_cache import Conditions, cache_folder, load, save

CONDITIONS = Conditions("revision", "a processor", 2, "0.32.0", "digest", 200.0)
STEPS = (Step(4, 0, 0.025), Step(4, 16, 0.03))


def kept(folder: Path) -> Path:
    path = save(folder, CONDITIONS, STEPS)
    assert path is not None
    return path


def test_what_was_measured_is_found_again(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "folder"
    assert load(folder, CONDITIONS) == ()
    path = kept(folder)
    assert load(folder, CONDITIONS) == STEPS
    assert list(folder.iterdir()) == [path]  # nothing half-written beside it
    assert '"processor": "a processor"' in path.read_text()  # people read it, too


@pytest.mark.parametrize(
    "other",
    [
        {"model": "another"},
        {"processor": "another"},
        {"cores": 3},
        {"vllm": "0.33.0"},
        {"engine": "another"},
        {"objective_ms": 201.0},
    ],
)
def test_nothing_is_found_under_other_conditions(tmp_path: Path, other: dict[str, Any]) -> None:
    path = kept(tmp_path)
    conditions = msgspec.structs.replace(CONDITIONS, **other)
    assert load(tmp_path, conditions) == ()
    theirs = save(tmp_path, conditions, STEPS)
    assert theirs is not None
    path.replace(theirs)  # as if copied there
    assert load(tmp_path, conditions) == ()


@pytest.mark.parametrize(
    "content",
    [
        "",
        "{",
        "[]",
        '{"version": 2, "conditions": CONDITIONS, "steps": []}',
        '{"version": 1, "conditions": {}, "steps": []}',
        '{"version": 1, "conditions": CONDITIONS, "steps": [], "more": 1}',
        '{"version": 1, "conditions": CONDITIONS, "steps": [{"streams": 0, "prompt": 16, "seconds": 0.1}]}',
        '{"version": 1, "conditions": CONDITIONS, "steps": [{"streams": 1, "prompt": -1, "seconds": 0.1}]}',
        '{"version": 1, "conditions": CONDITIONS, "steps": [{"streams": 1, "prompt": 1e30, "seconds": 0.1}]}',
        '{"version": 1, "conditions": CONDITIONS, "steps": [{"streams": 1, "prompt": 16, "seconds": 0}]}',
        '{"version": 1, "conditions": CONDITIONS, "steps": [{"streams": 1, "prompt": 16, "seconds": NaN}]}',
    ],
)
def test_a_damaged_file_is_as_good_as_none(tmp_path: Path, content: str, caplog: pytest.LogCaptureFixture) -> None:
    path = kept(tmp_path)
    path.write_text(content.replace("CONDITIONS", msgspec.json.encode(CONDITIONS).decode()))
    assert load(tmp_path, CONDITIONS) == ()
    assert f"{path} cannot be used, so steps are measured anew: " in caplog.text
    kept(tmp_path)
    assert load(tmp_path, CONDITIONS) == STEPS


def test_where_nothing_can_be_written_nothing_is_kept(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = tmp_path / "file"
    folder.write_text("where the folder should be")
    assert save(folder, CONDITIONS, STEPS) is None
    assert "the next start measures them again" in caplog.text
    assert load(folder, CONDITIONS) == ()
    assert save(None, CONDITIONS, STEPS) is None
    assert load(None, CONDITIONS) == ()


def test_the_folder_is_the_users_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "chiasm" / "steps"
    monkeypatch.setenv("XDG_CACHE_HOME", "")
    monkeypatch.setenv("HOME", "/home/somebody")
    assert cache_folder() == Path("/home/somebody/.cache/chiasm/steps")
