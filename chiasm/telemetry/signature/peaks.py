"""What this machine does at most: FLOP/s of a large matrix product, bytes/s of a large copy or sum.

Measured with torch, in the number format that models are served in, and the best that was ever seen is kept on the
machine: a peak is what was possible, and the machine may have been busy. Numbers are random, since some cards multiply
zeros faster.

`python -m chiasm.telemetry.signature.peaks CONDITIONS` (as JSON) measures in a process of its own, and prints the best
as JSON.
"""

import json
import logging
import re
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, astuple, dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from chiasm.kept_files import kept_folder, write_whole
from chiasm.machine import cpu_model

logger = logging.getLogger(__name__)

VERSION = 3
ROUNDS = 12  # of each kernel, after a warm-up of one
ROUNDS_S = 2.0  # no further round begins after that
CALLS = {"cpu": 1, "cuda": 10}  # that are timed as one
SIDES = {"cpu": (1024, 2048), "cuda": (8192, 16384)}  # of the square matrices
COPIED_BYTES = {"cpu": 256 << 20, "cuda": 2 << 30}  # far more than any cache holds
LEAST_FREE_BYTES = 2 << 30  # on a card that an engine has most of: what is copied in less could lie in a cache


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

    def of(self, cards: int) -> "Peaks":
        """Those of so many together."""
        return Peaks(*(cards * peak for peak in astuple(self)))


def conditions_here(device: str, dtype: str) -> Conditions:
    """Those of this process."""
    import torch

    if device == "cuda":
        return Conditions(device, str(torch.cuda.get_device_name()), 0, dtype, str(torch.__version__))
    return Conditions(device, cpu_model(), torch.get_num_threads(), dtype, str(torch.__version__))


@dataclass(frozen=True)
class Best:
    """The greatest of each peak, and when that was measured (ISO 8601), by the name of the peak."""

    peaks: Peaks
    measured: Mapping[str, str]


def best_peaks(conditions: Conditions, folder: Path | None, measure: Callable[[Conditions], Peaks], now: str) -> Best:
    """The greater of what `measure` finds now and what is kept in `folder`, of each peak; that is kept there."""
    fresh = measure(conditions)
    best = Best(fresh, dict.fromkeys(asdict(fresh), now))
    if folder is None:
        return best
    if (kept := kept_peaks(conditions, folder)) is not None:
        best = _greater(kept, best)
    path = folder / f"{_name(conditions)}.json"
    content = {"version": VERSION, "conditions": asdict(conditions), **asdict(best)}
    try:
        write_whole(path, json.dumps(content, indent=2).encode() + b"\n")
    except OSError as error:
        logger.warning("peaks are not kept, and the next run cannot compare its own with them: %s", error)
    return best


def _greater(kept: Best, fresh: Best) -> Best:
    peaks, measured = asdict(kept.peaks), dict(kept.measured)
    for name, value in asdict(fresh.peaks).items():
        if value > peaks[name]:
            peaks[name], measured[name] = value, fresh.measured[name]
    return Best(Peaks(**peaks), measured)


def measure_peaks(conditions: Conditions) -> Peaks:
    """Measure them on this process's device; some seconds.

    A processor without units for a short format is quicker in float32, which is then what a good kernel converts to.

    Raises:
        RuntimeError: the card has too little memory left.
    """
    import torch

    device = conditions.device
    room = _room() if device == "cuda" else None
    formats = {getattr(torch, conditions.dtype)} | ({torch.float32} if device == "cpu" else set())
    flops_per_s = max(_product_rate(device, dtype, room) for dtype in formats)
    copied = COPIED_BYTES[device] if room is None else min(COPIED_BYTES[device], room // 4)
    source = torch.rand(copied // 4, device=device, dtype=torch.float32)
    target = torch.empty_like(source)
    copy = 2 * source.nbytes / _quickest(lambda: target.copy_(source), device)
    read = source.nbytes / _quickest(source.sum, device)
    return Peaks(flops_per_s, copy, read)


def _room() -> int:
    """Bytes of the card that may be taken: half of what is free."""
    import torch

    free: int = torch.cuda.mem_get_info()[0]
    if free < LEAST_FREE_BYTES:
        raise RuntimeError(
            f"{free / 1e9:.2g} GB are free on the card, and peaks are measured in {LEAST_FREE_BYTES / 1e9:.2g} GB. "
            "Give the engine less (--gpu-memory-utilization), or run `chiasm bench phases --quick` there without it."
        )
    return free // 2


def _product_rate(device: str, dtype: Any, room: int | None) -> float:
    """FLOP/s of the best of the matrix products that fit into so many bytes, and take no longer than a round may."""
    import torch

    rates: list[float] = []
    for side in SIDES[device]:
        if rates and room is not None and 3 * side**2 * dtype.itemsize > room:
            break
        if rates and 2 * side**3 / rates[-1] > ROUNDS_S:
            break
        left, right = (torch.randn(side, side, device=device, dtype=dtype) for _ in range(2))
        product = torch.empty_like(left)
        multiply = partial(torch.mm, left, right, out=product)
        rates.append(2 * side**3 / _quickest(multiply, device))
    return max(rates)


def _quickest(call: Callable[[], Any], device: str) -> float:
    """Seconds of one call, in the best round."""
    import torch

    wait: Callable[[], Any] = torch.cuda.synchronize if device == "cuda" else lambda: None
    calls = CALLS[device]
    seconds: list[float] = []
    end = time.perf_counter() + ROUNDS_S
    while len(seconds) < 2 or (len(seconds) <= ROUNDS and time.perf_counter() < end):
        wait()
        start = time.perf_counter()
        for _ in range(calls):
            call()
        wait()
        seconds.append((time.perf_counter() - start) / calls)
    return min(seconds[1:])


def kept_peaks(conditions: Conditions, folder: Path | None) -> Best | None:
    """What is kept in `folder` under these conditions; None if nothing is, or it cannot be used."""
    if folder is None:
        return None
    path = folder / f"{_name(conditions)}.json"
    try:
        kept = json.loads(path.read_bytes())
        if kept["version"] != VERSION or Conditions(**kept["conditions"]) != conditions:
            return None
        best = Best(Peaks(**kept["peaks"]), {name: str(kept["measured"][name]) for name in kept["peaks"]})
        if not all(isinstance(value, float) and 0 < value < 1e20 for value in asdict(best.peaks).values()):
            raise ValueError("a peak is no positive number")
    except FileNotFoundError:
        return None
    except (OSError, ValueError, LookupError, TypeError) as error:
        logger.warning("%s cannot be used, and will be written anew: %s", path, error)
        return None
    return best


def _name(conditions: Conditions) -> str:
    parts = (
        conditions.device,
        conditions.processor,
        f"{conditions.threads}-threads",
        conditions.dtype,
        conditions.torch,
    )
    return re.sub(r"[^A-Za-z0-9.]+", "-", "-".join(parts))


def _main(conditions: Conditions) -> None:
    import torch

    if conditions.threads:
        torch.set_num_threads(conditions.threads)
    now = datetime.now(UTC).isoformat(timespec="seconds")
    print(json.dumps(asdict(best_peaks(conditions, kept_folder("peaks"), measure_peaks, now))))


if __name__ == "__main__":
    _main(Conditions(**json.loads(sys.argv[1])))
