"""Peaks are measured once a machine, and believed only as far as they can be checked."""

from dataclasses import replace
from pathlib import Path

import pytest

from chiasm.telemetry.signature import peaks as module
from chiasm.telemetry.signature.peaks import Conditions, Peaks, conditions_here, measure_peaks, peaks_of

HERE = Conditions("cpu", "A Processor (R)", 2, "float32", "2.13.0")
PEAKS = Peaks(1e11, 1e10, 1.2e10)


class Measuring:
    def __init__(self) -> None:
        self.asked: list[Conditions] = []

    def __call__(self, conditions: Conditions) -> Peaks:
        self.asked.append(conditions)
        return PEAKS


@pytest.fixture
def measuring() -> Measuring:
    return Measuring()


def test_they_are_measured_once(tmp_path: Path, measuring: Measuring) -> None:
    assert peaks_of(HERE, tmp_path / "peaks", measuring) == (PEAKS, False)
    assert peaks_of(HERE, tmp_path / "peaks", measuring) == (PEAKS, True)
    assert measuring.asked == [HERE]


@pytest.mark.parametrize("other", [{"processor": "Another"}, {"threads": 1}, {"dtype": "bfloat16"}, {"torch": "3"}])
def test_elsewhere_they_are_others(tmp_path: Path, measuring: Measuring, other: dict[str, str]) -> None:
    peaks_of(HERE, tmp_path, measuring)
    assert not peaks_of(replace(HERE, **other), tmp_path, measuring)[1]


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b'{"version": 0}', b'{"version": 1, "conditions": {}}', b"\xff\xfe"]
)
def test_a_damaged_file_is_measured_anew(tmp_path: Path, measuring: Measuring, content: bytes) -> None:
    peaks_of(HERE, tmp_path, measuring)
    [file] = tmp_path.iterdir()
    file.write_bytes(content)
    assert peaks_of(HERE, tmp_path, measuring) == (PEAKS, False)
    assert peaks_of(HERE, tmp_path, measuring) == (PEAKS, True)


@pytest.mark.parametrize("value", ["0.0", "-1.0", "NaN", "Infinity", '"fast"'])
def test_a_peak_that_cannot_be_is_measured_anew(tmp_path: Path, measuring: Measuring, value: str) -> None:
    peaks_of(HERE, tmp_path, measuring)
    [file] = tmp_path.iterdir()
    file.write_text(file.read_text().replace("100000000000.0", value))
    assert not peaks_of(HERE, tmp_path, measuring)[1]


def test_without_a_folder_they_are_measured_each_time(measuring: Measuring) -> None:
    assert peaks_of(HERE, None, measuring) == (PEAKS, False)
    assert peaks_of(HERE, None, measuring) == (PEAKS, False)


def test_what_cannot_be_kept_is_told(tmp_path: Path, measuring: Measuring, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "file").touch()
    assert peaks_of(HERE, tmp_path / "file", measuring) == (PEAKS, False)
    assert "not kept" in caplog.text


def test_a_processor_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(module.SIDES, "cpu", (64,))
    monkeypatch.setitem(module.COPIED_BYTES, "cpu", 1 << 20)
    peaks = measure_peaks(conditions_here("cpu", "float32"))
    assert peaks.flops_per_s > 1e6
    assert peaks.copy_bytes_per_s > 1e6
    assert peaks.balance == peaks.flops_per_s / max(peaks.copy_bytes_per_s, peaks.read_bytes_per_s)
