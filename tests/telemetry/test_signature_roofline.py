"""Verdicts, shares, and how they are shown."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from chiasm.telemetry.signature.peaks import Peaks
from chiasm.telemetry.signature.roofline import (
    BANDWIDTH,
    COMPUTE,
    NEITHER,
    RUNNING,
    UNFUSED,
    Division,
    Point,
    Request,
    above_the_peak,
    judge,
    row,
    signature,
)
from chiasm.telemetry.signature.tables import plot_roofline, points_table, signature_table
from chiasm.telemetry.signature.work import Work

PEAKS = Peaks(flops_per_s=1e12, copy_bytes_per_s=8e9, read_bytes_per_s=1e10)  # the balance is 100


def point(phase: str, flops: int, nbytes: int, seconds: float, units: int = 1) -> Point:
    return Point(
        phase=phase,
        label=f"a {phase}",
        how="CUDA graph",
        units=units,
        work=Work(flops, 0, nbytes, 0, 0),
        seconds=seconds,
        spread=(seconds, seconds),
        rounds=5,
        eager_seconds=2 * seconds,
        counters={"gpm_tensor_active": 0.5, "samples": 7.0},
    )


ENCODE = point("encode", flops=10**12, nbytes=10**9, seconds=1.25)  # 1000 FLOP/byte
PREFILL = point("prefill", flops=10**12, nbytes=10**9, seconds=5.0)
DECODE = point("decode", flops=10**10, nbytes=10**10, seconds=1.25, units=4)  # 1 FLOP/byte


def test_what_computes_most_of_the_time_is_bound_by_it() -> None:
    verdict = judge(ENCODE, PEAKS)
    assert verdict.bound == COMPUTE
    assert verdict.of_compute == pytest.approx(0.8)
    assert verdict.of_bandwidth == pytest.approx(0.08)  # of the better of copy and sum
    assert "compute accounts for 80 % of the time" in verdict.why
    assert "the machine turns at 100" in verdict.why


def test_what_waits_for_memory_most_of_the_time_is_bound_by_bandwidth() -> None:
    verdict = judge(DECODE, PEAKS)
    assert verdict.bound == BANDWIDTH
    assert verdict.of_bandwidth == pytest.approx(0.8)


def test_what_neither_explains_is_bound_by_neither_and_says_so() -> None:
    verdict = judge(PREFILL, PEAKS)
    assert verdict.bound == NEITHER
    assert "20 %" in verdict.why
    assert "launches" not in verdict.why  # a graph has none between its kernels
    assert "launches" in judge(replace(PREFILL, eager_seconds=None), PEAKS).why
    assert "what the engine does between two steps" in judge(replace(PREFILL, how=RUNNING), PEAKS).why


def test_most_of_the_time_in_kernels_that_only_move_is_named_so() -> None:
    division = Division(
        product_seconds=1.5, attention_seconds=0.5, rest_seconds=3.0, rest_kernels=1200, rest_bytes=18 * 10**9
    )
    verdict = judge(replace(PREFILL, division=division), PEAKS)
    assert verdict.bound == UNFUSED
    assert "matrix products take 30 % of the time, at 0.667 TFLOP/s, 67 % of the peak" in verdict.why
    assert "all else 60 % of the time, in 1,200 kernels that move 18 GB between them" in verdict.why
    assert "6 GB/s, 75 % of a copy's" in verdict.why  # of the copy, not of the sum


@pytest.mark.parametrize(
    "division",
    [
        Division(2.5, 0.5, 2.0, 1200, 16 * 10**9),  # they move as fast as a copy, but take less than half of the time
        Division(1.5, 0.5, 3.0, 1200, 10**9),  # they take most of the time, and move little: they are small
        Division(1.5, 0.5, 3.0),  # fused, so nobody counted
    ],
)
def test_kernels_that_are_few_small_or_fused_bound_nothing(division: Division) -> None:
    verdict = judge(replace(PREFILL, division=division), PEAKS)
    assert verdict.bound == NEITHER
    assert "matrix products take" in verdict.why


def test_a_step_reads_its_weights_at_a_rate_and_its_cache_at_another() -> None:
    work = Work(linear_flops=10**9, attention_flops=10**8, weight_bytes=10**9, kv_bytes=10**9, other_bytes=0)
    division = Division(0.2, 0.25, 0.55, 100, 10**6)
    verdict = judge(replace(DECODE, work=work, seconds=1.0, division=division), PEAKS)
    assert "matrix products take 20 % of the time, at 5 GB/s, 50 % of the peak" in verdict.why
    assert "attention 25 % of the time, at 4 GB/s, 40 % of the peak" in verdict.why


def test_a_point_at_the_peak_of_both_is_called_after_the_compute() -> None:
    assert judge(point("prefill", 10**12, 10**10, seconds=1.0), PEAKS).bound == COMPUTE


def test_what_exceeds_a_peak_is_told() -> None:
    assert above_the_peak(row(ENCODE, PEAKS)) == []
    assert above_the_peak(row(replace(ENCODE, seconds=0.8), PEAKS)) == ["125 % of the compute peak"]
    assert above_the_peak(row(replace(DECODE, seconds=0.5), PEAKS)) == ["200 % of the bandwidth peak"]


def test_shares_are_of_the_requests_time_and_a_step_is_shared_by_its_streams() -> None:
    rows = signature(Request(ENCODE, PREFILL, DECODE, answer_tokens=12), PEAKS)
    assert [one["request_seconds"] for one in rows] == [1.25, 5.0, 12 * 1.25 / 4]
    assert [one["share"] for one in rows] == [0.125, 0.5, 0.375]


def test_a_row_is_flat_and_goes_into_json() -> None:
    one = json.loads(json.dumps(row(ENCODE, PEAKS)))
    assert one["bound"] == COMPUTE
    assert one["gpm_tensor_active"] == 0.5
    assert all(isinstance(value, int | float | str) for value in one.values())


def test_the_tables_name_verdict_share_and_counters() -> None:
    request = Request(ENCODE, PREFILL, DECODE, answer_tokens=12)
    console = Console(width=200, record=True, quiet=False, file=open("/dev/null", "w"))  # noqa: SIM115
    with console.file:
        other = replace(ENCODE, variant="compiled", division=Division(1.0, 0.125, 0.125))
        console.print(signature_table(signature(request, PEAKS)), points_table([row(other, PEAKS)]))
    text = console.export_text()
    for part in (
        COMPUTE,
        NEITHER,
        BANDWIDTH,
        "38 %",
        "tensor 50 %",
        "2.50 s",
        "compiled",
        "products 80 %",
        "rest 10 %",
    ):
        assert part in text


@pytest.mark.parametrize("ending", ["svg", "png"])
def test_the_roofline_is_drawn(tmp_path: Path, ending: str) -> None:
    pytest.importorskip("matplotlib")
    file = tmp_path / f"roofline.{ending}"
    points = (ENCODE, replace(ENCODE, variant="compiled"), PREFILL, DECODE)
    plot_roofline([row(one, PEAKS) for one in points], {"": PEAKS}, "a machine", file)
    assert file.stat().st_size > 1000
    if ending == "svg":  # letters are drawn as lines, with what they spell as a comment
        text = file.read_text()
        for number, label in enumerate(("encode: a encode", "encode: a encode, compiled", "prefill: a prefill"), 1):
            assert f"<!-- {number:2}  {label} -->" in text
        assert "<!-- 1 TFLOP/s -->" in text
        assert "<!-- a machine -->" in text
