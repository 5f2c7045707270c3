"""The shape of vLLM's `random-mm` dataset, as `vllm bench serve` 0.32 draws it: the same distributions, other draws.

What its flags mean was read in vLLM's `benchmarks/datasets` (RandomMultiModalDataset). Two things differ: videos are
not made, and a prompt has so many tokens in all, where vLLM leaves room for those that a tokenizer adds of itself.
"""

import base64
import io
import math
import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from PIL import Image

from bench.load.texts import text_of
from bench.load.workloads import BadWorkload, Bodies, Text, exactly, kind_of

Bucket = tuple[int, int, int]
"""Height and width in pixels, and the number of frames: 1 for an image."""

BUCKETS: Mapping[Bucket, float] = {(256, 256, 1): 0.5, (720, 1280, 1): 0.5}
LIMITS: Mapping[str, int] = {"image": 255, "video": 1}


@dataclass(frozen=True)
class RandomMM:
    """Random text before a number of images of random pixels: the worst that JPEG can be given, as vLLM has it.

    Sampling is greedy; `vllm bench serve` leaves it to the server unless told `--temperature 0`.

    Raises:
        BadWorkload: fields contradict each other, or ask for videos.
    """

    name: ClassVar[str] = "random-mm"
    base_items: int = 1  # --random-mm-base-items-per-request
    items_range_ratio: float = 0.0  # --random-mm-num-mm-items-range-ratio
    limits: Mapping[str, int] = field(default_factory=lambda: dict(LIMITS))  # --random-mm-limit-mm-per-prompt
    buckets: Mapping[Bucket, float] = field(default_factory=lambda: dict(BUCKETS))  # --random-mm-bucket-config
    input_tokens: int = 1024  # --random-input-len
    output_tokens: int = 128  # --random-output-len
    input_range_ratio: float = 0.0  # --random-range-ratio
    output_range_ratio: float = 0.0  # --random-range-ratio
    text: Text = text_of

    def __post_init__(self) -> None:
        for flag, ratio in (("input", self.input_range_ratio), ("output", self.output_range_ratio)):
            if not 0 <= ratio < 1:
                raise BadWorkload(f"--random-range-ratio is {ratio} for {flag}. Give 0 or more, and less than 1.")
        if not 0 <= self.items_range_ratio <= 1:
            raise BadWorkload(f"--random-mm-num-mm-items-range-ratio is {self.items_range_ratio}. Give 0 to 1.")
        if self.base_items < 0 or self.output_tokens < 1:
            raise BadWorkload("--random-mm-base-items-per-request must be 0 or more, --random-output-len 1 or more.")
        if self.prompt_lengths[0] < 1:
            raise BadWorkload("Prompts may have no token. Give more --random-input-len, or less --random-range-ratio.")
        self._check_buckets()
        least, most = self.items
        if least > most:
            raise BadWorkload(
                f"Each request is to have {least} images or more, but --random-mm-limit-mm-per-prompt allows {most}. "
                "Allow more, or give fewer --random-mm-base-items-per-request."
            )

    def _check_buckets(self) -> None:
        if any(share < 0 for share in self.buckets.values()) or not sum(self.buckets.values()) > 0:
            raise BadWorkload("--random-mm-bucket-config: shares must not be negative, and one must be above zero.")
        for (height, width, frames), share in self.buckets.items():
            if share and frames != 1:
                raise BadWorkload(f"--random-mm-bucket-config has {frames} frames. Only images can be sent: 1 frame.")
            if share and (height < 1 or width < 1):
                raise BadWorkload(f"--random-mm-bucket-config has images of {height} x {width} pixels. Give 1 or more.")
        if self.limits.get("image", -1) < 0:
            raise BadWorkload('--random-mm-limit-mm-per-prompt does not limit images. Give {"image": N}.')

    @property
    def items(self) -> tuple[int, int]:
        """Fewest and most images of a request; each number between is equally frequent."""
        least, most = _around(self.base_items, self.items_range_ratio)
        return least, min(most, self.limits["image"])

    @property
    def prompt_lengths(self) -> tuple[int, int]:
        """Fewest and most tokens of a prompt."""
        return _around(self.input_tokens, self.input_range_ratio)

    @property
    def answer_lengths(self) -> tuple[int, int]:
        """Fewest and most tokens of an answer."""
        least, most = _around(self.output_tokens, self.output_range_ratio)
        return max(1, least), most

    def bodies(self, count: int, dice: random.Random) -> Bodies:
        """Text comes before the images, and answers go on to their length, as `vllm bench serve` asks for both."""
        return [self._request(dice) for _ in range(count)]

    def _request(self, dice: random.Random) -> tuple[str, Mapping[str, Any]]:
        prompt = self.text(dice.randint(*self.prompt_lengths), dice)
        images = dice.randint(*self.items)
        drawn = dice.choices(list(self.buckets), weights=list(self.buckets.values()), k=images)
        parts: list[Mapping[str, Any]] = [{"type": "text", "text": prompt}]
        parts += [{"type": "image_url", "image_url": {"url": _noise(w, h, dice)}} for h, w, _ in drawn]
        body = {"messages": [{"role": "user", "content": parts}], **exactly(dice.randint(*self.answer_lengths))}
        return kind_of(images), body


def _around(middle: int, ratio: float) -> tuple[int, int]:
    return math.floor(middle * (1 - ratio)), math.ceil(middle * (1 + ratio))


def _noise(width: int, height: int, dice: random.Random) -> str:
    file = io.BytesIO()
    Image.frombytes("RGB", (width, height), dice.randbytes(3 * width * height)).save(file, "JPEG")
    return "data:image/jpeg;base64," + base64.b64encode(file.getvalue()).decode()
