"""NVIDIA's own counters of a card: NVML's everywhere, GPM's from Hopper on. What is missing is named, not hidden.

NVML tells the state of the card at a moment, or over the time before it; its two utilisations are parts of *time* in
which anything ran at all, not how much. GPM (`nvmlGpmMetricsGet`) tells how busy the parts of the chip were between two
moments.
"""

from collections.abc import Callable
from typing import Any

import pynvml

GPM_METRICS = {
    "gpm_sm_active": "NVML_GPM_METRIC_SM_UTIL",  # of the time in which a multiprocessor had work
    "gpm_sm_occupancy": "NVML_GPM_METRIC_SM_OCCUPANCY",  # of the warps that could be there
    "gpm_tensor_active": "NVML_GPM_METRIC_ANY_TENSOR_UTIL",  # of the time in which the tensor pipes were busy
    "gpm_dram_active": "NVML_GPM_METRIC_DRAM_BW_UTIL",  # of the memory's bandwidth
}
"""NVML's constants by our names; all are percentages, and we make them parts of one."""

WINDOWED = frozenset({"nvml_gpu_busy", "nvml_memory_busy", "nvml_power_average_w"})
"""Those of NVML that tell of the time before they are read."""

WINDOW_S = 1.0
"""How much of it, at most: NVML's utilisations are of a sixth of a second to a second, its average power is of one."""


class CardCounters:
    """The counters of one card, by its number or its UUID (`GPU-...`). Close it.

    `missing` says in words what cannot be read, and why. For one thread.
    """

    def __init__(self, card: int | str, nvml: Any = pynvml) -> None:
        self._nvml = nvml
        self.missing: list[str] = []
        self._device: Any = None
        self._last: Any = None  # GPM's sample of the previous reading
        self._gpm = False
        try:
            nvml.nvmlInit()
        except nvml.NVMLError as error:
            self.missing.append(f"NVML: {error} (no NVIDIA driver here)")
            return
        try:
            by_number = isinstance(card, int)
            self._device = (nvml.nvmlDeviceGetHandleByIndex if by_number else nvml.nvmlDeviceGetHandleByUUID)(card)
        except nvml.NVMLError as error:
            self.missing.append(f"NVML: GPU {card}: {error}")
            nvml.nvmlShutdown()
            return
        self._readers = self._usable_readers()
        self._gpm = self._has_gpm()

    def _usable_readers(self) -> dict[str, Callable[[], float]]:
        """By name what can be read here: parts of one, W, Hz, bytes."""
        nvml, device = self._nvml, self._device
        readers: dict[str, Callable[[], float]] = {
            "nvml_gpu_busy": lambda: nvml.nvmlDeviceGetUtilizationRates(device).gpu / 100,
            "nvml_memory_busy": lambda: nvml.nvmlDeviceGetUtilizationRates(device).memory / 100,
            "nvml_power_w": self._power_now,
            "nvml_power_average_w": lambda: nvml.nvmlDeviceGetPowerUsage(device) / 1e3,
            "nvml_sm_clock_hz": lambda: nvml.nvmlDeviceGetClockInfo(device, nvml.NVML_CLOCK_SM) * 1e6,
            "nvml_memory_clock_hz": lambda: nvml.nvmlDeviceGetClockInfo(device, nvml.NVML_CLOCK_MEM) * 1e6,
            "nvml_memory_used_bytes": lambda: float(nvml.nvmlDeviceGetMemoryInfo(device).used),
        }
        for name in list(readers):
            try:
                readers[name]()
            except nvml.NVMLError as error:
                self.missing.append(f"{name}: {error}")
                del readers[name]
        return readers

    def _power_now(self) -> float:
        """W."""
        (field,) = self._nvml.nvmlDeviceGetFieldValues(self._device, [self._nvml.NVML_FI_DEV_POWER_INSTANT])
        if field.nvmlReturn != self._nvml.NVML_SUCCESS:
            raise self._nvml.NVMLError(field.nvmlReturn)
        return float(field.value.uiVal) / 1e3

    def _has_gpm(self) -> bool:
        try:
            if self._nvml.nvmlGpmQueryDeviceSupport(self._device).isSupportedDevice:
                self._last = self._gpm_sample()
                return True
            self.missing.append("GPM: this card has none (it comes with Hopper, and not with MIG or every vGPU)")
        except (self._nvml.NVMLError, AttributeError) as error:
            self.missing.append(f"GPM: {error}")
        return False

    def read(self) -> dict[str, float]:
        """All that can be read: NVML's now, GPM's since the last reading."""
        if self._device is None:
            return {}
        values = {}
        for name, reader in self._readers.items():
            try:
                values[name] = reader()
            except self._nvml.NVMLError:
                continue  # this moment lacks it; it could be read when we started
        return values | self._read_gpm()

    def _read_gpm(self) -> dict[str, float]:
        if not self._gpm:
            return {}
        nvml = self._nvml
        try:
            sample = self._gpm_sample()
            asked = nvml.c_nvmlGpmMetricsGet_t()
            asked.version = nvml.NVML_GPM_METRICS_GET_VERSION
            asked.numMetrics = len(GPM_METRICS)
            asked.sample1, asked.sample2 = self._last, sample
            for place, constant in enumerate(GPM_METRICS.values()):
                asked.metrics[place].metricId = getattr(nvml, constant)
            answered = nvml.nvmlGpmMetricsGet(asked)
        except nvml.NVMLError as error:
            self.missing.append(f"GPM: {error}")
            self._gpm = False
            return {}
        nvml.nvmlGpmSampleFree(self._last)
        self._last = sample
        values = {}
        for place, name in enumerate(GPM_METRICS):
            metric = answered.metrics[place]
            if metric.nvmlReturn == nvml.NVML_SUCCESS and metric.value == metric.value:  # no NaN
                values[name] = metric.value / 100
        return values

    def _gpm_sample(self) -> Any:
        sample = self._nvml.nvmlGpmSampleAlloc()
        try:
            self._nvml.nvmlGpmSampleGet(self._device, sample)
        except self._nvml.NVMLError:
            self._nvml.nvmlGpmSampleFree(sample)
            raise
        return sample

    def close(self) -> None:
        """Give back what NVML lent."""
        if self._last is not None:
            self._nvml.nvmlGpmSampleFree(self._last)
            self._last = None
        if self._device is not None:
            self._device = None
            self._nvml.nvmlShutdown()
