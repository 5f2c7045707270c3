"""From what a phase had to do, and the time it took, to what it is bound by.

The roofline model (Williams, Waterman, Patterson, "Roofline", 2009): a run takes at least its FLOPs at the machine's
peak, and at least its bytes at the machine's bandwidth. The greater of the two is its floor. Pure.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from chiasm.telemetry.signature.peaks import Peaks
from chiasm.telemetry.signature.work import Work

COMPUTE, BANDWIDTH, NEITHER = "compute-bound", "bandwidth-bound", "neither"

EXPLAINED = 0.5
"""Part of the time that a resource must account for alone, for a phase to be bound by it."""


@dataclass(frozen=True)
class Point:
    """One way to run a phase, measured."""

    phase: str  # "encode", "prefill" or "decode"
    label: str  # what was run, e.g. "1 image of 1024 x 1024"
    how: str  # e.g. "CUDA graph"
    units: int  # image tokens, prompt tokens or streams in one run
    work: Work
    seconds: float  # of one run, the median
    spread: tuple[float, float]  # the quickest and the slowest round
    rounds: int
    eager_seconds: float | None = None  # launched kernel by kernel, where `how` is something else
    counters: Mapping[str, float] = field(default_factory=dict)  # of NVML and GPM meanwhile, means


@dataclass(frozen=True)
class Verdict:
    """How a point stands to the machine's peaks."""

    flops_per_s: float
    bytes_per_s: float
    of_compute: float  # parts of the peaks
    of_bandwidth: float
    intensity: float  # FLOPs a byte
    bound: str
    why: str


def judge(point: Point, peaks: Peaks) -> Verdict:
    """What the point is bound by."""
    flops_per_s = point.work.flops / point.seconds
    bytes_per_s = point.work.nbytes / point.seconds
    of_compute, of_bandwidth = flops_per_s / peaks.flops_per_s, bytes_per_s / peaks.bytes_per_s
    compute_first = of_compute >= of_bandwidth  # the same as: intensity is at least the balance
    part, resource = (of_compute, "compute") if compute_first else (of_bandwidth, "bandwidth")
    ridge = f"{point.work.intensity:.3g} FLOP/byte, the machine turns at {peaks.balance:.3g}"
    if part >= EXPLAINED:
        bound = COMPUTE if compute_first else BANDWIDTH
        return Verdict(
            flops_per_s, bytes_per_s, of_compute, of_bandwidth, point.work.intensity, bound,
            f"{resource} accounts for {100 * part:.0f} % of the time; {ridge}",
        )  # fmt: skip
    why = f"{resource} comes nearest and accounts for {100 * part:.0f} % of the time only; {ridge}"
    if point.eager_seconds is None:
        why += "; the rest is launches, small kernels, and traffic between layers, which is not counted"
    else:
        why += "; the rest is small kernels and traffic between layers, which is not counted"
    return Verdict(flops_per_s, bytes_per_s, of_compute, of_bandwidth, point.work.intensity, NEITHER, why)


def row(point: Point, peaks: Peaks) -> dict[str, Any]:
    """The point and its verdict as a flat object of plain values, in seconds, bytes and FLOPs."""
    verdict = judge(point, peaks)
    quickest, slowest = point.spread
    return {
        "phase": point.phase,
        "run": point.label,
        "how": point.how,
        "units": point.units,
        "rounds": point.rounds,
        "seconds": point.seconds,
        "seconds_min": quickest,
        "seconds_max": slowest,
        "eager_seconds": point.eager_seconds,
        "flops": point.work.flops,
        "bytes": point.work.nbytes,
        "weight_bytes": point.work.weight_bytes,
        "kv_bytes": point.work.kv_bytes,
        "flops_per_s": verdict.flops_per_s,
        "bytes_per_s": verdict.bytes_per_s,
        "part_of_compute_peak": verdict.of_compute,
        "part_of_bandwidth_peak": verdict.of_bandwidth,
        "intensity_flop_per_byte": verdict.intensity,
        "balance_flop_per_byte": peaks.balance,
        "bound": verdict.bound,
        "why": verdict.why,
        **point.counters,
    }


@dataclass(frozen=True)
class Request:
    """What a request asks of a card, for the share that each phase has of its time."""

    encode: Point  # its images, alone
    prefill: Point  # its prompt, alone
    decode: Point  # a step that it shares with others
    answer_tokens: int

    def seconds(self) -> dict[str, float]:
        """Of the card's time, by phase; a decode step's is divided among its streams."""
        step = self.decode.seconds / self.decode.units
        return {
            "encode": self.encode.seconds,
            "prefill": self.prefill.seconds,
            "decode": self.answer_tokens * step,
        }


def signature(request: Request, peaks: Peaks) -> Sequence[Mapping[str, Any]]:
    """A row for each phase, with its share of the request's time."""
    seconds = request.seconds()
    whole = sum(seconds.values())
    points = (request.encode, request.prefill, request.decode)
    return [
        row(point, peaks) | {"request_seconds": seconds[point.phase], "share": seconds[point.phase] / whole}
        for point in points
    ]


def peaks_row(peaks: Peaks) -> dict[str, float]:
    """The peaks as a flat object."""
    return asdict(peaks) | {"balance_flop_per_byte": peaks.balance}
