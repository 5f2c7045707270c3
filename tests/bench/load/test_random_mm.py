"""The flags of vLLM's random-mm mean here what they mean there; contradictions are refused by the flag's name."""

import base64
import io
import itertools
import random
from collections import Counter
from typing import Any

import click
import pytest
from click.testing import CliRunner
from PIL import Image

from bench.load.random_mm import RandomMM
from bench.load.random_mm_flags import random_mm_flags
from bench.load.workloads import BadWorkload, Workload

SMALL = {(16, 32, 1): 1.0}


def contents(random_mm: RandomMM, count: int) -> list[list[dict[str, Any]]]:
    return [body["messages"][0]["content"] for _, body in random_mm.bodies(count, random.Random(1))]


def image(part: dict[str, Any]) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(part["image_url"]["url"].partition(",")[2])))


@pytest.mark.parametrize(
    ("base", "ratio", "limit", "items"),
    [
        (1, 0.0, 255, (1, 1)),
        (1, 1.0, 255, (0, 2)),
        (6, 0.67, 10, (1, 10)),  # floor(1.98), and ceil(10.02) held to 10
        (3, 0.5, 255, (1, 5)),  # floor(1.5), ceil(4.5)
        (0, 1.0, 255, (0, 0)),
    ],
)
def test_the_number_of_images_lies_around_the_base(base: int, ratio: float, limit: int, items: tuple[int, int]) -> None:
    random_mm = RandomMM(base, ratio, {"image": limit}, SMALL, input_tokens=4)
    assert random_mm.items == items
    kinds = {kind for kind, _ in random_mm.bodies(200, random.Random(2))}
    assert kinds == {f"{count}img" if count else "text" for count in range(items[0], items[1] + 1)}


def test_buckets_are_heights_and_widths_drawn_by_their_shares() -> None:
    buckets = {(16, 32, 1): 3.0, (32, 16, 1): 1.0, (720, 1280, 16): 0.0}
    parts = [content[1] for content in contents(RandomMM(buckets=buckets, input_tokens=4), 400)]
    sizes = Counter(image(part).size for part in parts)
    assert set(sizes) == {(32, 16), (16, 32)}  # Pillow tells the width first
    assert sizes[32, 16] == pytest.approx(300, abs=35)


def test_images_are_noise_and_come_after_the_text() -> None:
    text, part = contents(RandomMM(buckets={(64, 64, 1): 1.0}, input_tokens=9), 1)[0]
    assert text["type"] == "text"
    assert len(text["text"]) == 9
    grey = image(part).convert("L").tobytes()
    jumps = [abs(left - right) for left, right in itertools.pairwise(grey)]
    assert sum(jumps) / len(jumps) > 20  # from one pixel to the next: no picture has that


def test_lengths_lie_around_theirs() -> None:
    random_mm = RandomMM(0, input_tokens=10, output_tokens=5, input_range_ratio=0.25, output_range_ratio=0.9)
    bodies = [body for _, body in random_mm.bodies(300, random.Random(3))]
    assert {len(body["messages"][0]["content"][0]["text"]) for body in bodies} == set(range(7, 14))
    assert {body["max_tokens"] for body in bodies} == set(range(1, 11))  # never no token
    assert all(body["ignore_eos"] for body in bodies)


def test_a_seed_decides() -> None:
    random_mm: Workload = RandomMM(buckets=SMALL, input_tokens=4)
    assert random_mm.name == "random-mm"
    assert random_mm.bodies(2, random.Random(1)) == random_mm.bodies(2, random.Random(1))
    assert random_mm.bodies(2, random.Random(1)) != random_mm.bodies(2, random.Random(2))


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"base_items": 5, "limits": {"image": 3}}, "5 images or more, but --random-mm-limit-mm-per-prompt allows 3"),
        ({"limits": {"video": 3}}, "--random-mm-limit-mm-per-prompt does not limit images"),
        ({"items_range_ratio": 1.1}, r"--random-mm-num-mm-items-range-ratio is 1\.1\. Give 0 to 1"),
        ({"base_items": -1}, "--random-mm-base-items-per-request must be 0 or more"),
        ({"output_tokens": 0}, "--random-output-len 1 or more"),
        ({"input_range_ratio": 1.0}, r"--random-range-ratio is 1\.0 for input"),
        ({"output_range_ratio": -0.1}, r"--random-range-ratio is -0\.1 for output"),
        ({"input_tokens": 1, "input_range_ratio": 0.5}, "Give more --random-input-len"),
        ({"buckets": {(720, 1280, 16): 1.0}}, "16 frames. Only images can be sent"),
        ({"buckets": {(0, 1280, 1): 1.0}}, "0 x 1280 pixels"),
        ({"buckets": {(16, 16, 1): 0.0}}, "one must be above zero"),
        ({"buckets": {(16, 16, 1): 2.0, (8, 8, 1): -1.0}}, "must not be negative"),
    ],
)
def test_contradictions_are_refused_by_the_flags_name(fields: dict[str, Any], words: str) -> None:
    with pytest.raises(BadWorkload, match=words):
        RandomMM(**fields)


made: list[RandomMM] = []


@click.command()
@click.option("--other", default=1)
@random_mm_flags
def command(other: int, random_mm: RandomMM) -> None:
    """Keep what came of the flags."""
    made[:] = [random_mm] * other


def test_defaults_are_those_of_vllm() -> None:
    assert CliRunner().invoke(command, []).exit_code == 0
    assert made == [
        RandomMM(
            base_items=1,
            items_range_ratio=0.0,
            limits={"image": 255, "video": 1},
            buckets={(256, 256, 1): 0.5, (720, 1280, 1): 0.5},
            input_tokens=1024,
            output_tokens=128,
            input_range_ratio=0.0,
            output_range_ratio=0.0,
        )
    ]


@pytest.mark.parametrize(
    "buckets", ["{(256, 256, 1): 0.25, (720, 1280, 1): 0.75}", '{"(256, 256, 1)": 0.25, "(720, 1280, 1)": 0.75}']
)
def test_flags_are_written_as_for_vllm(buckets: str) -> None:
    arguments = ["--random-mm-base-items-per-request=2", "--random-mm-num-mm-items-range-ratio=0.5"]
    arguments += ['--random-mm-limit-mm-per-prompt={"image":3,"video":0}', f"--random-mm-bucket-config={buckets}"]
    arguments += ["--random-input-len=300", "--random-output-len=40", '--random-range-ratio={"input":0.2,"output":0.4}']
    result = CliRunner().invoke(command, arguments)
    assert result.exit_code == 0, result.output
    limits = {"image": 3, "video": 0}
    shares = {(256, 256, 1): 0.25, (720, 1280, 1): 0.75}
    assert made == [RandomMM(2, 0.5, limits, shares, 300, 40, input_range_ratio=0.2, output_range_ratio=0.4)]


def test_one_ratio_is_for_both() -> None:
    assert CliRunner().invoke(command, ["--random-range-ratio=0.3"]).exit_code == 0
    assert (made[0].input_range_ratio, made[0].output_range_ratio) == (0.3, 0.3)


@pytest.mark.parametrize(
    ("argument", "words"),
    [
        ("--random-range-ratio=much", "'--random-range-ratio': 'much' is neither a number"),
        ('--random-range-ratio={"input":0.1}', "is neither a number"),
        ("--random-mm-limit-mm-per-prompt=3", "'--random-mm-limit-mm-per-prompt': '3' is not JSON like"),
        ("--random-mm-bucket-config={(1, 2): 0.5}", "'--random-mm-bucket-config': '{(1, 2): 0.5}' is not like"),
        ("--random-mm-bucket-config=import os", "is not like"),
        ("--random-mm-num-mm-items-range-ratio=3", "--random-mm-num-mm-items-range-ratio is 3.0. Give 0 to 1."),
    ],
)
def test_a_flag_that_cannot_be_read_is_named(argument: str, words: str) -> None:
    result = CliRunner().invoke(command, [argument])
    assert result.exit_code == 2
    assert words in " ".join(result.output.split())
