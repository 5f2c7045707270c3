"""Pictures have the size that was asked for, are small, and are never the same."""

import base64
import io
import random

import pytest
from PIL import Image

from bench.load.pictures import picture


def opened(url: str) -> Image.Image:
    assert url.startswith("data:image/jpeg;base64,")
    image = Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2])))
    image.load()
    return image


@pytest.mark.parametrize("size", [(28, 28), (640, 360), (1008, 1344)])
def test_its_size_is_as_asked(size: tuple[int, int]) -> None:
    image = opened(picture(*size, random.Random(1)))
    assert (image.size, image.format) == (size, "JPEG")


def test_it_is_a_few_kilobytes() -> None:
    assert len(picture(448, 448, random.Random(1))) < 8_000
    assert len(picture(1008, 1008, random.Random(1))) < 24_000


def test_each_is_another_and_one_seed_draws_the_same() -> None:
    dice = random.Random(1)
    drawn = [picture(56, 56, dice) for _ in range(20)]
    assert len({opened(url).tobytes() for url in drawn}) == 20
    assert picture(56, 56, random.Random(1)) == drawn[0]
