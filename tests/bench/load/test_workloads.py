"""Mixes keep to their bounds, come again from a seed, and never send the same picture twice."""

import base64
import io
import random
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
from PIL import Image

from bench.load.workloads import MIXES, Mixed, Workload

pytestmark = pytest.mark.slow


def parts(body: Mapping[str, Any]) -> tuple[list[str], str]:
    """Addresses of its pictures, and its text."""
    content = body["messages"][0]["content"]
    if isinstance(content, str):
        return [], content
    urls = [part["image_url"]["url"] for part in content if part["type"] == "image_url"]
    return urls, next(part["text"] for part in content if part["type"] == "text")


def size(url: str) -> tuple[int, int]:
    return Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2]))).size


@pytest.mark.parametrize(("name", "images"), [("text", 0), ("1img", 1), ("2img", 2), ("4img", 4), ("8img", 8)])
def test_a_mix_has_as_many_images_as_it_says(name: str, images: int) -> None:
    bodies = MIXES[name].bodies(3, random.Random(1))
    assert [kind for kind, _ in bodies] == [name] * 3
    assert [len(parts(body)[0]) for _, body in bodies] == [images] * 3


def test_mixed_has_all_of_them_about_equally() -> None:
    kinds = Counter(kind for kind, _ in replace(MIXES["mixed"], sides=((28, 28),)).bodies(300, random.Random(2)))
    assert set(kinds) == {"text", "1img", "2img", "3img", "4img"}
    assert min(kinds.values()) > 40


def test_sizes_and_lengths_are_within_bounds_and_reach_them() -> None:
    mix = Mixed("few", (1, 2), ((28, 56), (84, 28)), prompt_tokens=(3, 5), output_tokens=(7, 8))
    seen: dict[str, set[Any]] = {"sizes": set(), "prompts": set(), "answers": set()}
    for _, body in mix.bodies(60, random.Random(3)):
        urls, text = parts(body)
        seen["sizes"] |= {size(url) for url in urls}
        seen["prompts"].add(len(text))
        seen["answers"].add(body["max_tokens"])
    assert seen == {"sizes": {(28, 56), (84, 28)}, "prompts": {3, 4, 5}, "answers": {7, 8}}


def test_answers_are_greedy_and_do_not_end_of_themselves() -> None:
    _, body = MIXES["text"].bodies(1, random.Random(4))[0]
    assert (body["temperature"], body["ignore_eos"]) == (0, True)
    assert not {"model", "stream"} & set(body)


def test_no_picture_comes_twice() -> None:
    urls = [url for _, body in MIXES["4img"].bodies(10, random.Random(5)) for url in parts(body)[0]]
    assert len(set(urls)) == 40


@pytest.mark.parametrize("name", MIXES)
def test_a_seed_decides(name: str) -> None:
    mix: Workload = MIXES[name]
    assert mix.name == name
    assert mix.bodies(3, random.Random("a")) == mix.bodies(3, random.Random("a"))
    assert mix.bodies(3, random.Random("a")) != mix.bodies(3, random.Random("b"))


def test_another_vocabulary_has_its_own_texts() -> None:
    mix = Mixed("words", (0, 0), (), (2, 2), (1, 1), text=lambda tokens, dice: "word " * tokens)
    assert parts(mix.bodies(1, random.Random(6))[0][1])[1] == "word word "
