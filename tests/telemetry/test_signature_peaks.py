"""The best that was seen of a machine counts, and what is kept is believed only as far as it can be checked."""

from dataclasses import replace
from pathlib import Path

import pytest

from chiasm.telemetry.signature import peaks as module
from chiasm.telemetry.signature.peaks import Best, Conditions, Peaks, best_peaks, conditions_here, measure_peaks

HERE = Conditions("cpu", "A Processor (R)", 2, "float32", "2.13.0")
PEAKS = Peaks(1e11, 1e10, 1.2e10)
LESS = Peaks(9e10, 9e9, 1e10)


NAMES = ("flops_per_s", "copy_bytes_per_s", "read_bytes_per_s")


def best(folder: Path | None, peaks: Peaks, day: str, conditions: Conditions = HERE) -> Best:
    return best_peaks(conditions, folder, lambda asked: peaks, day)


def test_of_each_peak_the_greatest_that_was_seen_counts(tmp_path: Path) -> None:
    folder = tmp_path / "peaks"
    assert best(folder, PEAKS, "monday") == Best(PEAKS, dict.fromkeys(NAMES, "monday"))
    quicker = Peaks(PEAKS.flops_per_s / 2, 2 * PEAKS.copy_bytes_per_s, PEAKS.read_bytes_per_s)
    expected = Best(
        replace(PEAKS, copy_bytes_per_s=2 * PEAKS.copy_bytes_per_s),
        {"flops_per_s": "monday", "copy_bytes_per_s": "tuesday", "read_bytes_per_s": "monday"},
    )
    assert best(folder, quicker, "tuesday") == expected
    assert best(folder, Peaks(1.0, 1.0, 1.0), "wednesday") == expected


@pytest.mark.parametrize("other", [{"processor": "Another"}, {"threads": 1}, {"dtype": "bfloat16"}, {"torch": "3"}])
def test_elsewhere_they_are_others(tmp_path: Path, other: dict[str, str]) -> None:
    best(tmp_path, PEAKS, "monday")
    assert best(tmp_path, LESS, "tuesday", replace(HERE, **other)).peaks == LESS


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b'{"version": 0}', b'{"version": 3, "conditions": {}}', b"\xff\xfe"]
)
def test_a_damaged_file_counts_for_nothing_and_is_replaced(tmp_path: Path, content: bytes) -> None:
    best(tmp_path, PEAKS, "monday")
    [file] = tmp_path.iterdir()
    file.write_bytes(content)
    assert best(tmp_path, LESS, "tuesday").peaks == LESS
    assert best(tmp_path, LESS, "wednesday").measured == dict.fromkeys(NAMES, "tuesday")


@pytest.mark.parametrize("value", ["0.0", "-1.0", "NaN", "Infinity", '"fast"'])
def test_a_peak_that_cannot_be_counts_for_nothing(tmp_path: Path, value: str) -> None:
    best(tmp_path, PEAKS, "monday")
    [file] = tmp_path.iterdir()
    file.write_text(file.read_text().replace("100000000000.0", value))
    assert best(tmp_path, LESS, "tuesday").peaks == LESS


def test_without_a_folder_what_is_measured_counts() -> None:
    best(None, PEAKS, "monday")
    assert best(None, LESS, "tuesday").peaks == LESS


def test_what_cannot_be_kept_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "file").touch()
    assert best(tmp_path / "file", PEAKS, "monday").peaks == PEAKS
    assert "not kept" in caplog.text


def test_a_processor_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(module.SIDES, "cpu", (64,))
    monkeypatch.setitem(module.COPIED_BYTES, "cpu", 1 << 20)
    peaks = measure_peaks(conditions_here("cpu", "float32"))
    assert peaks.flops_per_s > 1e6
    assert peaks.copy_bytes_per_s > 1e6
    assert peaks.balance == peaks.flops_per_s / max(peaks.copy_bytes_per_s, peaks.read_bytes_per_s)
