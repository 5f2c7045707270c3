"""`chiasm bench phases`: what encode, prefill and decode are bound by on this machine.

Also `python -m bench.phases`, which needs no more of Chiasm than `chiasm.telemetry.signature` and what measures here:
torch, transformers, nvidia-ml-py, click and rich are enough, so that it runs on a bare machine with a GPU.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from bench.json_option import json_option
from bench.phase_sizes import (
    MODELS,
    ON_CPU,
    ON_CPU_QUICK,
    ON_GPU,
    ON_GPU_QUICK,
    SEED,
    Plan,
    config_of,
    decode_label,
    encode_label,
    prefill_label,
    span_name,
)
from bench.report import write_report
from chiasm.kept_files import kept_folder
from chiasm.telemetry.signature.counters import CardCounters
from chiasm.telemetry.signature.peaks import Best, Conditions, Peaks, best_peaks, conditions_here, measure_peaks
from chiasm.telemetry.signature.roofline import Point, Request, above_the_peak, peaks_row, row, signature
from chiasm.telemetry.signature.sampling import Sampler
from chiasm.telemetry.signature.tables import plot_roofline, points_table, signature_table

Mark = Callable[[str], AbstractContextManager[None]]  # surrounds what is called so
DTYPES = {"cpu": "float32", "cuda": "bfloat16"}  # as models are served there
PLANS = {("cpu", False): ON_CPU, ("cpu", True): ON_CPU_QUICK, ("cuda", False): ON_GPU, ("cuda", True): ON_GPU_QUICK}

console = Console(highlight=False)


@click.command()
@click.option("--device", type=click.Choice(["cpu", "cuda"]), help="[default: cuda where there is one]")
@click.option("--model", "name", type=click.Choice(MODELS), help="[default: qwen2.5-vl-3b, on a CPU -300m]")
@click.option("--threads", type=click.IntRange(1), help="Of torch, on a CPU.  [default: torch's own]")
@click.option("--compile", "variants", is_flag=True, help="Measure the request's phases also compiled (minutes).")
@click.option("--quick", is_flag=True, help="Fewer points, each for a shorter time.")
@json_option
@click.option("--plot", "plot_file", type=click.Path(path_type=Path), help="Draw the roofline to this file (svg, png).")
def phases(
    device: str | None,
    name: str | None,
    threads: int | None,
    variants: bool,
    quick: bool,
    json_file: Path | None,
    plot_file: Path | None,
) -> None:
    """Measure which of encode, prefill and decode is bound by compute, and which by bandwidth.

    A model of the named size with random weights runs each phase alone, at several sizes. FLOPs and bytes are computed
    from its configuration, the machine's peaks are measured.
    """
    import torch

    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    if device == "cuda" and not torch.cuda.is_available():
        raise click.UsageError("torch finds no GPU here. Use --device cpu, or install a torch with CUDA.")
    if threads is not None:
        torch.set_num_threads(threads)
    name = name or ("qwen2.5-vl-3b" if device == "cuda" else "qwen2.5-vl-300m")
    plan = PLANS[device, quick]
    conditions = conditions_here(device, DTYPES[device])
    best = _peaks(conditions)
    peaks = best.peaks
    points, missing = _points(name, device, plan, peaks, variants)
    request = _request(points, plan)
    summary = signature(request, peaks)
    rows = [row(point, peaks) for point in points]
    console.print(signature_table(summary), points_table(rows))
    for one in [*summary, *(one for one in rows if one["variant"])]:
        name_of_row = ", ".join(filter(None, (one["phase"], one["variant"])))
        console.print(f"{name_of_row}: {one['bound']}: {one['why']}")
    for one in rows:
        for excess in above_the_peak(one):
            console.print(
                f"[bold]More than can be[/]: {one['phase']}, {one['run']}: {excess}. Either that was measured while "
                "the machine had other work (run this again when it has none), or the weights lie in a cache"
            )
    if plot_file is not None:
        plot_file.parent.mkdir(parents=True, exist_ok=True)
        plot_roofline(rows, {"": peaks}, f"{name} on {conditions.processor}, {conditions.dtype}", plot_file)
    if json_file is not None:
        write_report(
            json_file,
            name="phases",
            command=f"chiasm bench phases --device {device} --model {name}"
            + ("" if threads is None else f" --threads {threads}")
            + (" --compile" if variants else "")
            + (" --quick" if quick else ""),
            headline=_headline(summary, rows),
            series=[
                {
                    "what": "machine",
                    "model": name,
                    **vars(conditions),
                    **peaks_row(peaks),
                    "measured": best.measured,
                    "missing": missing,
                },
                *({"what": "request", **one} for one in summary),
                *({"what": "point", **one} for one in rows),
            ],
            seeds=[SEED],
        )


def _peaks(conditions: Conditions) -> Best:
    with console.status("measuring what the machine does at most ..."):
        now = datetime.now(UTC).isoformat(timespec="seconds")
        best = best_peaks(conditions, kept_folder("peaks"), measure_peaks, now)
    peaks = best.peaks
    before = sorted({when for when in best.measured.values() if when != now})
    console.print(
        f"{conditions.processor}, {conditions.dtype}: {peaks.flops_per_s / 1e12:.3g} TFLOP/s in a matrix product, "
        f"{peaks.copy_bytes_per_s / 1e9:.4g} GB/s in a copy, {peaks.read_bytes_per_s / 1e9:.4g} GB/s in a sum: "
        f"{peaks.balance:.3g} FLOP/byte ({f'the best since {before[0]}' if before else 'measured now'})"
    )
    return best


def _points(name: str, device: str, plan: Plan, peaks: Peaks, with_variants: bool) -> tuple[list[Point], list[str]]:
    """All of the plan's, then those of variants, and in words what could not be measured."""
    import torch

    from bench.phase_network import random_model, use_flash_attention
    from bench.phase_points import Phases
    from bench.phase_variants import PLAIN, VARIANTS, divided, timed

    missing: list[str] = []

    def note(text: str) -> None:
        console.print(text)
        missing.append(text)

    dtype = getattr(torch, DTYPES[device])
    with console.status(f"drawing the weights of {name} ..."):
        model = random_model(config_of(name), device, dtype)
    if device == "cuda":
        try:
            use_flash_attention(model.model.visual)
        except Exception as error:  # torch's interface is young: whatever this version raises, there is the slower way
            note(f"the tower attends to one window after the other: {type(error).__name__}: {error}")

    def tell(point: Point) -> None:
        floor = max(point.work.flops / peaks.flops_per_s, point.work.nbytes / peaks.bytes_per_s)
        console.print(
            f"  {point.phase:8}{point.label:24}{point.variant:18}{1000 * point.seconds:10.3f} ms, "
            f"{1000 * floor:.3f} ms at the peaks ({point.rounds} rounds)"
        )

    phases_of_model = Phases(model, device, dtype)
    variants = VARIANTS if with_variants else ()
    points = []
    with torch.no_grad():
        with _counting(device, note) as (mark, counted):
            for variant in (PLAIN, *variants):
                runs = plan if variant is PLAIN else plan.of_request()
                for point in timed(variant, phases_of_model, runs, mark, note):
                    tell(point)
                    points.append(point)
        # A profiler slows what runs after it, so it comes last.
        for variant in (PLAIN, *variants):
            points = divided(points, variant, phases_of_model, plan.of_request(), note)
    return [
        replace(one, counters=counted.get(span_name(one.phase, one.label, one.variant), {})) for one in points
    ], missing


@contextmanager
def _counting(device: str, note: Callable[[str], None]) -> Iterator[tuple[Mark, Mapping[str, Mapping[str, float]]]]:
    """What marks a span, and the counters' means by span, which are there at the end."""
    counted: dict[str, Mapping[str, float]] = {}
    if device == "cpu":
        yield lambda span: nullcontext(), counted
        return
    import torch

    counters = CardCounters(f"GPU-{torch.cuda.get_device_properties(torch.cuda.current_device()).uuid}")
    sampler = Sampler(counters)
    sampler.start()
    try:
        yield sampler.span, counted
    finally:
        counted |= sampler.stop()
        counters.close()
        for reason in counters.missing:
            note(f"not counted: {reason}")


def _request(points: list[Point], plan: Plan) -> Request:
    """The request that shares are told of."""
    by_label = {(point.phase, point.label): point for point in points if not point.variant}
    return Request(
        encode=by_label["encode", encode_label(*plan.image)],
        prefill=by_label["prefill", prefill_label(plan.prompt)],
        decode=by_label["decode", decode_label(plan.batch, plan.context)],
        answer_tokens=plan.answer,
    )


def _headline(summary: Sequence[Mapping[str, Any]], rows: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Of the request, and the parts of the peaks also of the variants that were measured."""
    by_phase = {one["phase"]: one for one in summary}
    headline = {
        "encode_pct_of_compute_peak": 100 * by_phase["encode"]["part_of_compute_peak"],
        "decode_pct_of_bandwidth_peak": 100 * by_phase["decode"]["part_of_bandwidth_peak"],
        "encode_intensity_flop_per_byte": by_phase["encode"]["intensity_flop_per_byte"],
        "decode_intensity_flop_per_byte": by_phase["decode"]["intensity_flop_per_byte"],
    }
    for one in rows:
        if one["variant"]:
            resource = "bandwidth" if one["phase"] == "decode" else "compute"
            name = one["variant"].replace(", ", "_")
            headline[f"{one['phase']}_pct_of_{resource}_peak_{name}"] = 100 * one[f"part_of_{resource}_peak"]
    return {name: round(value, 2) for name, value in headline.items()}


if __name__ == "__main__":
    phases()
