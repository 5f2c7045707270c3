"""Timelines as people see them."""

import io
from pathlib import Path

import pytest
from arbitrary_timelines import ASSEMBLED
from hypothesis import HealthCheck, given, settings
from rich.cells import cell_len
from rich.console import Console
from test_timeline import stolen_and_given_back, two_images
from told_requests import DECODER, ENCODER, U0, Told, image_records, image_request, items

from chiasm.telemetry.timelines.clock_offsets import ClockOffset
from chiasm.telemetry.timelines.timeline import Timeline
from chiasm.telemetry.timelines.view import TimelineView, plot_timeline


def drawn(timeline: Timeline, width: int, encoding: str = "utf-8") -> list[str]:
    """The lines that go into a pipe."""
    written = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    Console(file=written, width=width, highlight=False).print(TimelineView(timeline))
    written.seek(0)
    return [line.rstrip() for line in written.read().splitlines()]


def test_a_row_says_where_when_and_how_long() -> None:
    lines = drawn(image_request().timeline(image_records()), 80)
    assert lines[0] == "request r: answered, 20 tokens in 4,600.0 ms"
    assert lines[2].split() == ["phase", "item", "where", "at", "ms", "self", "0", "4,600.0", "ms"]
    assert lines[3].split() == ["fetch", "0.0", "100.0", "100.0", "█"]
    assert lines[7].split() == ["encode", "0", "encoder-0", "500.0", "500.0", "500.0", "███"]


@pytest.mark.parametrize("width", [80, 200])
def test_bars_lie_on_one_axis_as_wide_as_the_terminal(width: int) -> None:
    lines = drawn(image_request().timeline(image_records()), width)[2:15]
    begins = lines[0].index(" 0 ") + 1
    axis = width - begins
    decode = lines[-1]
    assert decode.index("█") == begins + round(axis * 2.6 / 4.6)
    assert decode.count("█") == pytest.approx(axis * 1.9 / 4.6, abs=1)
    assert max(map(cell_len, lines)) <= width


def test_the_shortest_span_at_the_very_end_has_a_bar() -> None:
    told = Told()
    told.at(9.999).submitted((), streams=True)
    told.at(10.0).ended("queue_full")
    fetch, wait = drawn(told.timeline(), 80)[3:5]
    assert wait.count("█") == 1
    assert len(wait) == len(fetch) == 80


def test_what_nobody_had_to_wait_for_is_light() -> None:
    lines = drawn(two_images(2.0).timeline(), 120)
    bars = {tuple(line.split()[:2]): set(line) & set("█░") for line in lines}
    assert bars["encode", "0"] == {"░"}
    assert bars["encode", "1"] == {"█"}
    assert "░ beside something that the request had to wait longer for" in lines
    assert not any("░" in line for line in drawn(stolen_and_given_back(), 120))


def test_a_note_stands_beside_its_bar_or_else_below_it() -> None:
    wide, narrow = drawn(stolen_and_given_back(), 120), drawn(stolen_and_given_back(), 80)
    assert any(line.endswith("█ stolen, paused") for line in narrow)
    assert any("continued █" in line for line in narrow)
    assert any("stolen, paused, given back █" in line for line in wide)
    assert any(line.strip() == "stolen, paused, given back" for line in narrow)


def test_what_phases_took_of_the_request_is_added_up() -> None:
    lines = [line.split() for line in drawn(image_request().timeline(image_records()), 80)]
    assert ["decode_queue", "400.0", "8.7", "%"] in lines
    assert ["unattributed", "100.0", "2.2", "%"] in lines


def test_what_is_not_known_is_said() -> None:
    lines = drawn(image_request().timeline({}, {ENCODER: ClockOffset(0, 0.004), DECODER: ClockOffset(0, 0.001)}), 80)
    assert "encoder-0 was not heard: what it did is not divided" in lines
    assert "clocks may be off: encoder-0 by 4.0 ms, decoder-0 by 1.0 ms" in lines


def test_reasons_of_failures_are_shown_as_they_are() -> None:
    told = Told()
    told.at(0.1).submitted(items(U0), streams=True)
    attempt = told.at(0.2).encode_posted(U0, ENCODER)
    told.at(0.5).encode_failed(attempt, "[Errno 111] [/bold]")
    told.at(0.6).ended("failed")
    assert any("failed: [Errno 111] [/bold]" in line for line in drawn(told.timeline(), 120))


def test_a_request_of_no_time_is_shown() -> None:
    told = Told()
    told.at(0.0).ended("invalid")
    assert drawn(told.timeline(), 80)[0] == "request r: invalid in 0.0 ms"


def test_a_pipe_without_unicode_is_enough() -> None:
    assert any("##" in line for line in drawn(two_images(2.0).timeline(), 80, "ascii"))


@pytest.mark.parametrize("width", [60, 80, 200])
@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(timeline=ASSEMBLED)
def test_every_timeline_fits_the_terminal(width: int, timeline: Timeline) -> None:
    lines = drawn(timeline, width)
    assert max(map(cell_len, lines)) <= width
    assert sum(bool(set(line) & set("█░")) for line in lines) >= len(timeline.spans)


def test_a_narrow_terminal_has_fewer_numbers_and_all_bars() -> None:
    timeline = image_request().timeline(image_records())
    lines = drawn(timeline, 45)
    assert max(map(cell_len, lines)) <= 45
    assert lines[2].split()[:3] == ["phase", "item", "where"]
    assert "self" not in lines[2]
    assert sum(bool(set(line) & set("█░")) for line in lines) >= len(timeline.spans)


@pytest.mark.parametrize("ending", ["svg", "png"])
def test_a_timeline_is_drawn_as_a_picture(tmp_path: Path, ending: str) -> None:
    file = tmp_path / f"timeline.{ending}"
    plot_timeline(stolen_and_given_back(), file)
    assert file.stat().st_size > 1000
    if ending == "svg":  # letters are drawn as lines, with what they spell as a comment
        assert "<!-- decode, encoder-0-text -->" in file.read_text()
