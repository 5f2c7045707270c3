"""Which pictures are sent: named, or found in a file."""

import json
import random
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from bench.diagnosis.plan import FULL, QUICK, Effort, by_number, by_size, load, scaled
from bench.diagnosis.sizes import UNTOLD, Sent, named, recorded, sizes_option
from bench.load.pictures import picture
from bench.load.workloads import BadWorkload
from chiasm.ask import chat_body


@click.command()
@click.option("--sizes", callback=sizes_option)
def show(sizes: tuple[tuple[int, int], ...]) -> None:
    click.echo(sizes)


@pytest.mark.parametrize("given", ["448x448,1344x896", "448X448, 1344x896"])
def test_sizes_are_read(given: str) -> None:
    assert CliRunner().invoke(show, ["--sizes", given]).output == "((448, 448), (1344, 896))\n"


@pytest.mark.parametrize(
    "given", ["448", "448x", "448x448;1x1", "", "448x448x3", "-1x5", "448x448,", "5x448", "448x99999"]
)
def test_other_sizes_are_refused_in_words(given: str) -> None:
    refused = CliRunner().invoke(show, ["--sizes", given])
    assert refused.exit_code == 2
    assert "--sizes" in refused.output


def test_the_smallest_comes_first_and_none_means_usual_ones() -> None:
    assert named(((1344, 896), (448, 448), (448, 448)), 2) == Sent(((448, 448), (1344, 896)), told=True, per_request=2)
    assert named((), 1) == Sent(UNTOLD, told=False)


def written(path: Path, *urls: str, most: int = 1) -> Path:
    """A picture a line, but for the last, which has as many as that."""
    lines = [*([url] for url in urls[:-most]), urls[-most:]]
    path.write_text("\n".join(json.dumps(chat_body(None, line, "What?")) for line in lines))
    return path


def test_a_file_tells_sizes_and_what_comes_again(tmp_path: Path) -> None:
    dice = random.Random(1)
    small, large = picture(64, 32, dice), picture(320, 200, dice)
    sent = recorded(written(tmp_path / "asked.jsonl", large, small, small, "http://elsewhere/cat.png", large))
    assert sent == Sent(((64, 32), (320, 200)), told=True, pictures=5, again=(0, 2), unseen=1)


@pytest.mark.parametrize(("lines", "per_request"), [(10, 3), (40, 1)])
def test_a_request_has_as_many_pictures_as_most(lines: int, per_request: int, tmp_path: Path) -> None:
    """One of so many lines has three."""
    urls = [picture(64, 32, random.Random(number)) for number in range(lines + 2)]
    assert recorded(written(tmp_path / "asked.jsonl", *urls, most=3)).per_request == per_request


def test_of_many_sizes_a_few_are_taken_the_smallest_and_largest_among_them(tmp_path: Path) -> None:
    dice = random.Random(1)
    sent = recorded(written(tmp_path / "asked.jsonl", *(picture(32 + n, 32, dice) for n in range(20))))
    assert len(sent.sizes) == 6
    assert (sent.sizes[0], sent.sizes[-1]) == ((32, 32), (51, 32))


def test_a_file_without_a_picture_that_can_be_read_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadWorkload, match="--sizes"):
        recorded(written(tmp_path / "asked.jsonl", "http://elsewhere/cat.png", "data:image/png;base64,aGVsbG8="))


def test_a_ladder_keeps_proportions_and_ends_at_what_is_sent() -> None:
    sent = Sent(((64, 64), (1600, 800)), told=True)
    sizes = [rung.size for rung in by_size(FULL, sent)]
    assert sizes[-1] == (1600, 800)
    assert [width / height for width, height in sizes] == pytest.approx([2.0] * 4, rel=0.01)
    assert scaled((100, 60), 0.25) == (50, 30)


@pytest.mark.parametrize(
    ("per_request", "effort", "numbers"),
    [(1, FULL, [1, 2, 3, 4]), (3, FULL, [1, 2, 3, 4]), (8, FULL, [1, 3, 5, 8]), (1, QUICK, [1, 2, 3])],
)
def test_a_ladder_of_numbers_has_as_many_as_are_sent(per_request: int, effort: Effort, numbers: list[int]) -> None:
    sent = Sent(((336, 336),), told=True, per_request=per_request)
    assert [rung.pictures for rung in by_number(effort, sent)] == numbers
    assert {rung.pictures for rung in by_size(effort, sent)} == {per_request}


def test_the_load_counts_both_ladders_and_what_streams_ask() -> None:
    most = load(FULL, Sent(((336, 336), (672, 672)), told=True))
    assert most.with_pictures == 4 + 4 + 2 + 10 * 4 + 5 * 15
    assert most.pictures == 4 + 10 + 2 + 10 * 10 + 5 * 15
    assert most.requests == 3 + most.with_pictures + 10 * 4 + 5 * 15
    assert most.of_streams == 4 * 76  # an answer takes four of three hundred seconds
    assert load(FULL, Sent(((336, 336),), told=True, per_request=3)).pictures == 3 * 4 + 10 + 1 + 10 * 12 + 5 * 15 * 3
