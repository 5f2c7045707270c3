"""NVML's and GPM's counters, on a driver that is played, and what is said where they are missing."""

import threading
from types import SimpleNamespace
from typing import Any

import pynvml
import pytest

from chiasm.telemetry.signature.counters import GPM_METRICS, CardCounters
from chiasm.telemetry.signature.sampling import Reading, Sampler, Span, means_by_span


class Driver:
    """As much of `pynvml` as is used. Each sample of GPM is a number, and metrics are what lies between two."""

    NVMLError = pynvml.NVMLError
    NVML_SUCCESS = pynvml.NVML_SUCCESS
    NVML_CLOCK_SM, NVML_CLOCK_MEM = 1, 2
    NVML_GPM_METRICS_GET_VERSION = 1
    NVML_FI_DEV_POWER_INSTANT = pynvml.NVML_FI_DEV_POWER_INSTANT

    def __init__(
        self, *, driver: bool = True, gpm: bool = True, power: bool = True, instant_power: int = pynvml.NVML_SUCCESS
    ) -> None:
        self._driver, self._gpm, self._power, self._instant_power = driver, gpm, power, instant_power
        self.open = 0
        self.samples: set[int] = set()
        self._next = 0
        for constant in GPM_METRICS.values():
            setattr(self, constant, getattr(pynvml, constant))

    def nvmlInit(self) -> None:
        if not self._driver:
            raise pynvml.NVMLError(pynvml.NVML_ERROR_LIBRARY_NOT_FOUND)
        self.open += 1

    def nvmlShutdown(self) -> None:
        self.open -= 1

    def nvmlDeviceGetHandleByIndex(self, index: int) -> str:
        if index:
            raise pynvml.NVMLError(pynvml.NVML_ERROR_NOT_FOUND)
        return "card"

    def nvmlDeviceGetHandleByUUID(self, uuid: str) -> str:
        assert uuid == "GPU-1"
        return "card"

    def nvmlDeviceGetUtilizationRates(self, card: str) -> Any:
        return SimpleNamespace(gpu=90, memory=40)

    def nvmlDeviceGetPowerUsage(self, card: str) -> int:
        if not self._power:
            raise pynvml.NVMLError(pynvml.NVML_ERROR_NOT_SUPPORTED)
        return 350_000

    def nvmlDeviceGetFieldValues(self, card: str, fields: list[int]) -> Any:
        assert fields == [pynvml.NVML_FI_DEV_POWER_INSTANT]
        return [SimpleNamespace(nvmlReturn=self._instant_power, value=SimpleNamespace(uiVal=420_500))]

    def nvmlDeviceGetClockInfo(self, card: str, kind: int) -> int:
        return 1980 if kind == self.NVML_CLOCK_SM else 2619

    def nvmlDeviceGetMemoryInfo(self, card: str) -> Any:
        return SimpleNamespace(used=1 << 30)

    def nvmlGpmQueryDeviceSupport(self, card: str) -> Any:
        return SimpleNamespace(isSupportedDevice=int(self._gpm))

    def nvmlGpmSampleAlloc(self) -> int:
        self._next += 1
        self.samples.add(self._next)
        return self._next

    def nvmlGpmSampleFree(self, sample: int) -> None:
        self.samples.remove(sample)

    def nvmlGpmSampleGet(self, card: str, sample: int) -> None:
        assert sample in self.samples

    def c_nvmlGpmMetricsGet_t(self) -> Any:
        return SimpleNamespace(metrics=[SimpleNamespace() for _ in GPM_METRICS])

    def nvmlGpmMetricsGet(self, asked: Any) -> Any:
        assert {asked.sample1, asked.sample2} == self.samples
        assert asked.sample2 == asked.sample1 + 1
        for place in range(asked.numMetrics):
            metric = asked.metrics[place]
            metric.nvmlReturn = pynvml.NVML_SUCCESS
            metric.value = float("nan") if place == 1 else 10.0 * metric.metricId
        return asked


def test_all_that_a_card_tells() -> None:
    driver = Driver()
    counters = CardCounters("GPU-1", driver)
    assert counters.missing == []
    values = counters.read()
    assert values["nvml_gpu_busy"] == 0.9
    assert values["nvml_power_w"] == 420.5
    assert values["nvml_power_average_w"] == 350
    assert values["nvml_sm_clock_hz"] == 1.98e9
    assert values["gpm_sm_active"] == pytest.approx(0.1 * pynvml.NVML_GPM_METRIC_SM_UTIL)
    assert values["gpm_dram_active"] == pytest.approx(0.1 * pynvml.NVML_GPM_METRIC_DRAM_BW_UTIL)
    assert "gpm_sm_occupancy" not in values  # no number
    counters.read()
    assert len(driver.samples) == 1  # of two readings only the last is kept
    counters.close()
    assert (driver.open, driver.samples) == (0, set())


def test_without_a_driver_that_is_what_is_said() -> None:
    counters = CardCounters(0, Driver(driver=False))
    assert counters.read() == {}
    assert "no NVIDIA driver" in counters.missing[0]
    counters.close()


def test_a_card_that_is_not_there_is_named() -> None:
    driver = Driver()
    counters = CardCounters(3, driver)
    assert counters.read() == {}
    assert "GPU 3" in counters.missing[0]
    counters.close()
    assert driver.open == 0


def test_an_older_card_has_nvml_alone() -> None:
    counters = CardCounters(0, Driver(gpm=False))
    assert any("Hopper" in reason for reason in counters.missing)
    assert not any(name.startswith("gpm") for name in counters.read())
    counters.close()


@pytest.mark.parametrize(
    ("driver", "name"),
    [
        (Driver(power=False), "nvml_power_average_w"),
        (Driver(instant_power=pynvml.NVML_ERROR_NOT_SUPPORTED), "nvml_power_w"),
    ],
)
def test_a_counter_that_the_card_has_not_is_named_and_left_out(driver: Driver, name: str) -> None:
    counters = CardCounters(0, driver)
    (reason,) = counters.missing
    assert reason.startswith(f"{name}: ")
    assert name not in counters.read()
    counters.close()


def test_a_reading_belongs_to_the_span_that_it_lies_in() -> None:
    readings = [Reading(start, start + 1.0, {"busy": start}) for start in range(10)]
    spans = [Span("a", 0.5, 3.5), Span("b", 4.0, 6.0), Span("a", 7.0, 8.0), Span("short", 8.2, 8.9)]
    assert means_by_span(readings, spans) == {
        "a": {"samples": 3, "busy": (1 + 2 + 7) / 3},
        "b": {"samples": 2, "busy": 4.5},
    }


def test_a_value_of_the_time_before_counts_once_that_lies_in_the_span_too() -> None:
    readings = [Reading(start, start + 1.0, {"busy": start, "now": start}) for start in range(10)]
    spans = [Span("a", 1.0, 5.0), Span("a", 6.0, 9.0), Span("short", 0.0, 2.0)]
    means = means_by_span(readings, spans, windowed=("busy",), window_s=3.0)
    assert means["a"] == {"samples": 7, "now": (1 + 2 + 3 + 4 + 6 + 7 + 8) / 7, "busy": (3 + 4 + 8) / 3}
    assert means["short"] == {"samples": 2, "now": 0.5}


def test_values_that_are_missing_now_and_then_do_not_count_as_nothing() -> None:
    readings = [Reading(0, 1, {"busy": 1.0, "power": 300.0}), Reading(1, 2, {"busy": 0.0})]
    assert means_by_span(readings, [Span("a", 0, 2)])["a"] == {"samples": 2, "busy": 0.5, "power": 300.0}


def test_the_sampler_reads_while_something_runs() -> None:
    read = threading.Semaphore(0)

    class Counting:
        def read(self) -> dict[str, float]:
            read.release()
            return {"busy": 1.0}

    sampler = Sampler(Counting(), interval_s=0.001)
    sampler.start()
    with sampler.span("run"):
        for _ in range(6):
            assert read.acquire(timeout=30)
    means = sampler.stop()
    assert means["run"]["busy"] == 1.0
    assert 1 <= means["run"]["samples"] <= 6
