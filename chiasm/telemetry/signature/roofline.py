"""From what a phase had to do, and the time it took, to what it is bound by.

The roofline model (Williams, Waterman, Patterson, "Roofline", 2009): a run takes at least its FLOPs at the machine's
peak, and at least its bytes at the machine's bandwidth. The greater of the two is its floor. Pure.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from chiasm.telemetry.signature.peaks import Peaks
from chiasm.telemetry.signature.work import Work

COMPUTE, BANDWIDTH, UNFUSED, NEITHER = "compute-bound", "bandwidth-bound", "unfused kernels", "neither"

RUNNING = "running engine"
"""How a point was run that nobody ran for its own sake: engines did it while they served."""

EXPLAINED = 0.5
"""Part of the time that a resource must account for alone, for a phase to be bound by it."""


@dataclass(frozen=True)
class Division:
    """How the time of a run divides among its kernels, for saying why it is not nearer to a peak.

    The rest is what is neither a matrix product nor attention: norms, rotations, activations, copies, and gaps.
    """

    product_seconds: float
    attention_seconds: float
    rest_seconds: float
    rest_kernels: int | None = None  # operations in it; None where they are fused, and so cannot be counted
    rest_bytes: int | None = None  # that those operations read and write: traffic that fused kernels would not have


@dataclass(frozen=True)
class Point:
    """One way to run a phase, measured."""

    phase: str  # "encode", "prefill" or "decode"
    label: str  # what was run, e.g. "1 image of 1024 x 1024"
    how: str  # e.g. "CUDA graph", or `RUNNING`
    units: int  # image tokens, prompt tokens or streams in one run
    work: Work
    seconds: float  # of one run, the median
    spread: tuple[float, float]  # the quickest and the slowest round
    rounds: int
    eager_seconds: float | None = None  # launched kernel by kernel, where `how` is something else
    counters: Mapping[str, float] = field(default_factory=dict)  # of NVML and GPM meanwhile, means
    variant: str = ""  # how the model was changed to run it, e.g. "compiled"
    division: Division | None = None


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
        why = f"{resource} accounts for {100 * part:.0f} % of the time; {ridge}"
    else:
        bound = UNFUSED if _waits_for_unfused(point, peaks) else NEITHER
        why = f"{resource} comes nearest and accounts for {100 * part:.0f} % of the time only; {ridge}"
        why += f"; {_where_the_time_goes(point, peaks)}"
    return Verdict(flops_per_s, bytes_per_s, of_compute, of_bandwidth, point.work.intensity, bound, why)


def above_the_peak(row: Mapping[str, Any]) -> list[str]:
    """What of a row of `row` cannot be: then a peak was measured too low, or the work is counted too high."""
    parts = (("compute", row["part_of_compute_peak"]), ("bandwidth", row["part_of_bandwidth_peak"]))
    return [f"{100 * part:.0f} % of the {resource} peak" for resource, part in parts if part > 1]


def _waits_for_unfused(point: Point, peaks: Peaks) -> bool:
    """Whether most of the time goes to kernels of the rest, and those are bound by bandwidth themselves."""
    division = point.division
    if division is None or division.rest_bytes is None:
        return False
    moving = division.rest_bytes / peaks.copy_bytes_per_s
    return division.rest_seconds >= EXPLAINED * point.seconds and moving >= EXPLAINED * division.rest_seconds


def _where_the_time_goes(point: Point, peaks: Peaks) -> str:
    division, work = point.division, point.work
    if division is None and point.how == RUNNING:
        return (
            "the rest is what the engine does between two steps, launches, small kernels, and traffic between layers, "
            "which is not counted"
        )
    if division is None:
        launches = "launches, " if point.eager_seconds is None else ""
        return f"the rest is {launches}small kernels, and traffic between layers, which is not counted"

    def share(seconds: float) -> str:
        return f"{100 * seconds / point.seconds:.0f} % of the time"

    def at(flops: int, nbytes: int, seconds: float) -> str:
        """The rate that is nearer to its peak."""
        compute, bandwidth = flops / seconds, nbytes / seconds
        if compute / peaks.flops_per_s >= bandwidth / peaks.bytes_per_s:
            return f"{compute / 1e12:.3g} TFLOP/s, {100 * compute / peaks.flops_per_s:.0f} % of the peak"
        return f"{bandwidth / 1e9:.3g} GB/s, {100 * bandwidth / peaks.bytes_per_s:.0f} % of the peak"

    parts = []
    if division.product_seconds:
        rate = at(work.linear_flops, work.weight_bytes, division.product_seconds)
        parts.append(f"matrix products take {share(division.product_seconds)}, at {rate}")
    if division.attention_seconds:
        rate = at(work.attention_flops, work.kv_bytes, division.attention_seconds)
        parts.append(f"attention {share(division.attention_seconds)}, at {rate}")
    rest = f"all else {share(division.rest_seconds)}"
    if division.rest_bytes is not None and division.rest_seconds:
        moving = division.rest_bytes / division.rest_seconds
        rest += (
            f", in {division.rest_kernels:,} kernels that move {division.rest_bytes / 1e9:.3g} GB between them, at "
            f"{moving / 1e9:.3g} GB/s, {100 * moving / peaks.copy_bytes_per_s:.0f} % of a copy's: fewer, fused ones "
            "(torch.compile, an engine's own) would take less of it"
        )
    return "; ".join([*parts, rest])


def row(point: Point, peaks: Peaks) -> dict[str, Any]:
    """The point and its verdict as a flat object of plain values, in seconds, bytes and FLOPs."""
    verdict = judge(point, peaks)
    quickest, slowest = point.spread
    return {
        "phase": point.phase,
        "run": point.label,
        "variant": point.variant,
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
        **(asdict(point.division) if point.division is not None else {}),
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
