"""Rows of what engines did: which steps they sum, how they are judged, how they are shown."""

import json
from pathlib import Path

import pytest
from live_engines import CONFIG, PEAKS, call, encoder_machine, machine, prompt, streams
from rich.console import Console

from bench.profile import roofline_figures
from chiasm.nouns import WorkerId
from chiasm.profile.roofline import show
from chiasm.telemetry.live.machine import Machine
from chiasm.telemetry.live.rooflines import roofs, running_rows
from chiasm.telemetry.records import EngineRecords
from chiasm.telemetry.signature.peaks import Best, Conditions, Peaks
from chiasm.telemetry.signature.shapes import language_of, tower_of
from chiasm.telemetry.signature.tables import plot_roofline
from chiasm.telemetry.signature.work import decode_work, encode_work, prefill_work

ENCODER, DECODER, TEXT = WorkerId("encoder-0"), WorkerId("decoder-0"), WorkerId("encoder-0-text")

ENCODED = EngineRecords(
    100.0,
    calls=(call(3.0, 5.0, 5.0, prompt=260), call(6.0, 9.0, 9.0, prompt=260)),
    steps=(prompt(5.0, 260, images=1, image_tokens=256), prompt(9.0, 260, images=1, image_tokens=256)),
)
DECODED = EngineRecords(  # a prompt, a token, a second prompt beside a token, a token for both
    100.0,
    calls=(call(0.0, 1.0, 4.0, prompt=50, output=4), call(2.0, 3.0, 4.0, prompt=70, output=2)),
    steps=(
        prompt(1.0, 50, running=1),
        streams(2.0, 1, running=1),
        prompt(3.0, 70, streams=1, stream_tokens=1, running=2),
        streams(4.0, 2),
    ),
)


def two_halves() -> dict[WorkerId, Machine]:
    return {ENCODER: encoder_machine(), DECODER: machine()}


def test_each_phase_has_a_row_of_the_steps_in_which_nothing_else_was_done() -> None:
    rows = running_rows({ENCODER: ENCODED, DECODER: DECODED}, two_halves())
    assert [(one["phase"], one["workers"], one["rounds"], one["seconds"]) for one in rows] == [
        ("encode", "encoder-0", 2, 5.0),
        ("prefill", "decoder-0", 1, 1.0),
        ("decode", "decoder-0", 2, 2.0),
        ("prefill + decode", "decoder-0", 1, 1.0),
    ]
    assert sum(one["share"] for one in rows) == pytest.approx(1)
    assert rows[0]["share"] == pytest.approx(5 / 9)
    language = language_of(CONFIG)
    assert rows[0]["flops"] == 2 * encode_work(tower_of(CONFIG), [(1, 32, 32)], 2).flops
    assert rows[1]["flops"] == prefill_work(language, [50], 2).flops
    assert rows[2]["bytes"] == decode_work(language, [51], 2).nbytes + decode_work(language, [53, 71], 2).nbytes
    assert rows[2]["bytes_per_s"] == rows[2]["bytes"] / 2
    assert rows[2]["run"] == "1.5 streams at 58"
    assert rows[3]["run"] == "1 x 70 prompt tokens, 1 streams at 52"


def test_engines_on_machines_that_are_alike_share_a_row() -> None:
    alike = {DECODER: machine(), TEXT: machine()}
    rows = running_rows({DECODER: DECODED, TEXT: DECODED}, alike)
    assert [one["workers"] for one in rows] == ["decoder-0, encoder-0-text"] * 3
    assert rows[1]["rounds"] == 4


def test_machines_that_differ_are_judged_by_their_own_peaks() -> None:
    slower = machine(conditions=Conditions("cpu", "Another", 2, "bfloat16", "2.13.0"), best=Best(_times(0.5), {}))
    rows = running_rows({DECODER: DECODED, TEXT: DECODED}, {DECODER: machine(), TEXT: slower})
    quick, slow = (one for one in rows if one["phase"] == "decode")
    assert (quick["workers"], slow["workers"]) == ("decoder-0", "encoder-0-text")
    assert slow["part_of_bandwidth_peak"] == pytest.approx(2 * quick["part_of_bandwidth_peak"])


def test_of_machines_that_are_alike_the_greatest_peaks_count() -> None:
    lesser = machine(best=Best(_times(0.5), {}))
    assert roofs({DECODER: machine(), TEXT: lesser}) == {"A Processor, 2 threads, bfloat16": PEAKS}


def test_several_cards_do_several_times_as_much() -> None:
    conditions = Conditions("cuda", "A Card", 0, "bfloat16", "2.13.0")
    four = machine(conditions=conditions, cards=4)
    assert roofs({DECODER: four}) == {"4 x A Card, bfloat16": _times(4.0)}
    one, spread = (running_rows({DECODER: DECODED}, {DECODER: which})[1] for which in (machine(), four))
    assert spread["part_of_bandwidth_peak"] == pytest.approx(one["part_of_bandwidth_peak"] / 4)


def _times(factor: float) -> Peaks:
    return Peaks(factor * PEAKS.flops_per_s, factor * PEAKS.copy_bytes_per_s, factor * PEAKS.read_bytes_per_s)


def test_without_peaks_nothing_is_judged() -> None:
    with pytest.raises(ValueError, match="decoder-0"):
        running_rows({DECODER: DECODED}, {DECODER: machine(best=None)})


def test_it_is_told_how_many_streams_are_known() -> None:
    unknown = EngineRecords(5.0, steps=(streams(1.0, 3, running=3), streams(2.0, 3, running=3, kv_part=0.1)))
    [row] = running_rows({DECODER: unknown}, {DECODER: machine()})
    assert row["known_streams"] == 0
    [*_, known, _] = running_rows({DECODER: DECODED}, {DECODER: machine()})
    assert known["known_streams"] == 1


def test_nothing_remembered_makes_no_rows() -> None:
    assert running_rows({DECODER: EngineRecords(1.0)}, {DECODER: machine()}) == []


def test_rows_go_into_json_and_the_table_has_them() -> None:
    machines = two_halves()
    rows = running_rows({ENCODER: ENCODED, DECODER: DECODED}, machines)
    assert json.loads(json.dumps(rows)) == rows
    with open("/dev/null", "w") as nowhere:
        console = Console(width=220, record=True, file=nowhere)
        show(rows, machines, console)
    text = console.export_text()
    for part in (
        "prefill + decode",
        "1 x 256 image tokens",
        "encoder-0",
        "56 %",
        "A Processor, 2 threads, bfloat16: 1 ",
    ):
        assert part in text


def test_what_exceeds_a_peak_is_told() -> None:
    quick = EngineRecords(5.0, calls=DECODED.calls, steps=(streams(1.0, 1, running=1), streams(1.0001, 1)))
    machines = {DECODER: machine()}
    with open("/dev/null", "w") as nowhere:
        console = Console(width=220, record=True, file=nowhere)
        show(running_rows({DECODER: quick}, machines), machines, console)
    assert "More than can be" in console.export_text()


def test_every_machine_has_its_roof_in_the_picture(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    machines = {
        ENCODER: encoder_machine(),
        DECODER: machine(conditions=Conditions("cuda", "A Card", 0, "bfloat16", "2.13.0"), best=Best(_times(7.0), {})),
    }
    rows = running_rows({ENCODER: ENCODED, DECODER: DECODED}, machines)
    file = tmp_path / "roofline.svg"
    plot_roofline(rows, roofs(machines), "What the engines did", file)
    text = file.read_text()
    for part in (
        "A Processor, 2 threads, bfloat16 1 TFLOP/s",
        "A Card, bfloat16 7 TFLOP/s",
        " 4  prefill + decode: 1 x",
    ):
        assert f"<!-- {part}" in text


def test_the_figures_are_of_steps_with_one_phase_and_of_the_machine_that_did_most() -> None:
    less = EngineRecords(
        5.0, calls=(call(3.0, 4.0, 4.0, prompt=260),), steps=(prompt(4.0, 260, images=1, image_tokens=64),)
    )
    other = Conditions("cpu", "Another", 2, "bfloat16", "2.13.0")
    machines = two_halves() | {TEXT: encoder_machine(conditions=other)}
    rows = running_rows({ENCODER: ENCODED, DECODER: DECODED, TEXT: less}, machines)
    encode, decode = rows[0], next(one for one in rows if one["phase"] == "decode")
    assert encode["workers"] == "encoder-0"
    assert roofline_figures(rows[::-1]) == {
        "encode_pct_of_compute_peak": round(100 * encode["part_of_compute_peak"], 2),
        "decode_pct_of_bandwidth_peak": round(100 * decode["part_of_bandwidth_peak"], 2),
        "encode_intensity_flop_per_byte": round(encode["intensity_flop_per_byte"], 2),
        "decode_intensity_flop_per_byte": round(decode["intensity_flop_per_byte"], 2),
    }
    with pytest.raises(ValueError, match="encode"):
        roofline_figures([decode])
