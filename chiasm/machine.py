"""What this machine computes with, by the names that its makers gave."""

import os
import platform
from pathlib import Path

import pynvml


def cpu_model() -> str:
    """The processor's name; its architecture, where the system does not tell more."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    return next((line.partition(": ")[2] for line in lines if line.startswith("model name")), platform.machine())


def visible_gpus() -> tuple[str, ...]:
    """Names of the GPUs that this process may use (CUDA_VISIBLE_DEVICES); none without NVIDIA's driver."""
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return ()
    try:
        chosen = os.environ.get("CUDA_VISIBLE_DEVICES")
        devices = map(str, range(pynvml.nvmlDeviceGetCount())) if chosen is None else chosen.split(",")
        return tuple(_name(device.strip()) for device in devices if device.strip())
    except pynvml.NVMLError:  # a list that names what is not there: CUDA sees none then
        return ()
    finally:
        pynvml.nvmlShutdown()


def _name(device: str) -> str:
    by_number = device.lstrip("-").isdigit()
    find = pynvml.nvmlDeviceGetHandleByIndex if by_number else pynvml.nvmlDeviceGetHandleByUUID
    return str(pynvml.nvmlDeviceGetName(find(int(device) if by_number else device)))
