"""What this machine does at most: FLOP/s of a large matrix product, bytes/s of a large copy or sum.

Measured once with torch, in the number format that models are served in, and kept on the machine. The best round
counts: a peak is what was possible. Numbers are random, since some cards multiply zeros faster.
"""

import json
import logging
import re
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from chiasm.kept_files import write_whole
from chiasm.machine import cpu_model

logger = logging.getLogger(__name__)

VERSION = 1
ROUNDS = 12  # of each kernel, after a warm-up of two
CALLS = {"cpu": 1, "cuda": 10}  # that are timed as one
SIDES = {"cpu": (1024, 2048), "cuda": (8192, 16384)}  # of the square matrices
COPIED_BYTES = {"cpu": 256 << 20, "cuda": 2 << 30}  # far more than any cache holds


@dataclass(frozen=True)
class Conditions:
    """All that peaks depend on."""

    device: str  # "cpu" or "cuda"
    processor: str
    threads: int  # of torch, on a CPU; 0 on a GPU
    dtype: str  # e.g. "bfloat16"
    torch: str  # version


@dataclass(frozen=True)
class Peaks:
    """The best that was seen."""

    flops_per_s: float
    copy_bytes_per_s: float  # bytes read plus bytes written
    read_bytes_per_s: float

    @property
    def bytes_per_s(self) -> float:
        """The better of the two: a CPU's copy reads what it is about to overwrite, and nobody counts that."""
        return max(self.copy_bytes_per_s, self.read_bytes_per_s)

    @property
    def balance(self) -> float:
        """FLOPs for each byte above which a perfect program is bound by compute, below which by bandwidth."""
        return self.flops_per_s / self.bytes_per_s


def conditions_here(device: str, dtype: str) -> Conditions:
    """Those of this process."""
    import torch

    if device == "cuda":
        return Conditions(device, str(torch.cuda.get_device_name()), 0, dtype, str(torch.__version__))
    return Conditions(device, cpu_model(), torch.get_num_threads(), dtype, str(torch.__version__))


def peaks_of(conditions: Conditions, folder: Path | None, measure: Callable[[Conditions], Peaks]) -> tuple[Peaks, bool]:
    """The peaks under these conditions, and whether they were measured before: kept in `folder`, else by `measure`."""
    path = None if folder is None else folder / f"{_name(conditions)}.json"
    if path is not None and (kept := _load(path, conditions)) is not None:
        return kept, True
    peaks = measure(conditions)
    if path is not None:
        content = {"version": VERSION, "conditions": asdict(conditions), "peaks": asdict(peaks)}
        try:
            write_whole(path, json.dumps(content, indent=2).encode() + b"\n")
        except OSError as error:
            logger.warning("peaks are not kept, and the next run measures them again: %s", error)
    return peaks, False


def measure_peaks(conditions: Conditions) -> Peaks:
    """Measure them on this process's device; some seconds."""
    import torch

    device = conditions.device
    dtype = getattr(torch, conditions.dtype)
    calls = CALLS[device]
    rates = []
    for side in SIDES[device]:
        left, right = (torch.randn(side, side, device=device, dtype=dtype) for _ in range(2))
        product = torch.empty_like(left)
        multiply = partial(torch.mm, left, right, out=product)
        rates.append(2 * side**3 / _quickest(multiply, device, calls))
    source = torch.rand(COPIED_BYTES[device] // 4, device=device, dtype=torch.float32)
    target = torch.empty_like(source)
    copy = 2 * source.nbytes / _quickest(lambda: target.copy_(source), device, calls)
    read = source.nbytes / _quickest(source.sum, device, calls)
    return Peaks(max(rates), copy, read)


def _quickest(call: Callable[[], Any], device: str, calls: int) -> float:
    """Seconds of one call, in the best round."""
    import torch

    wait: Callable[[], Any] = torch.cuda.synchronize if device == "cuda" else lambda: None
    seconds = []
    for _ in range(2 + ROUNDS):
        wait()
        start = time.perf_counter()
        for _ in range(calls):
            call()
        wait()
        seconds.append((time.perf_counter() - start) / calls)
    return min(seconds[2:])


def _load(path: Path, conditions: Conditions) -> Peaks | None:
    try:
        kept = json.loads(path.read_bytes())
        if kept["version"] != VERSION or Conditions(**kept["conditions"]) != conditions:
            return None
        peaks = Peaks(**kept["peaks"])
        if not all(isinstance(value, float) and 0 < value < 1e20 for value in asdict(peaks).values()):
            raise ValueError("a peak is no positive number")
    except FileNotFoundError:
        return None
    except (OSError, ValueError, LookupError, TypeError) as error:
        logger.warning("%s cannot be used, so peaks are measured anew: %s", path, error)
        return None
    return peaks


def _name(conditions: Conditions) -> str:
    parts = (
        conditions.device,
        conditions.processor,
        f"{conditions.threads}-threads",
        conditions.dtype,
        conditions.torch,
    )
    return re.sub(r"[^A-Za-z0-9.]+", "-", "-".join(parts))
