"""How many tokens an image takes, from its width and height alone. The encoder's answer has the true count; what is
known before it is for placement, for refusing what is certain not to fit, and for telling what an image takes.
"""

import math

from msgspec import Struct

MAX_ASPECT = 200
"""Qwen's image processors refuse an image whose one side is more than so many times the other."""


class ImageSizes(Struct, frozen=True):
    """What a cluster knows of its model for that (`chiasm.preflight.ModelFacts`)."""

    pixels_per_token: int
    tokens: tuple[int, int]  # the fewest and the most that one image can have
    pixels: tuple[int, int] | None  # the least and the most that Qwen's image processor resizes to, if it is used

    def estimate(self, width: int, height: int) -> int:
        """About how many tokens an image of this size (pixels) will have; exact where Qwen's processor is used."""
        if self.pixels is not None:
            return qwen_tokens(width, height, self.pixels_per_token, self.pixels)
        fewest, most = self.tokens
        return min(max(-(-width * height // self.pixels_per_token), fewest), most)


def qwen_tokens(width: int, height: int, pixels_per_token: int, pixel_bounds: tuple[int, int]) -> int:
    """The count for models whose images go through Qwen's processor, with no options set.

    It resizes an image to whole cells of one token each and keeps its proportions: to the nearest size, or, where that
    is beyond `pixel_bounds` (least, most), to the largest or smallest within them. The formula is that of
    `smart_resize` in transformers' `image_processing_qwen2_vl`. Turning an image by a quarter changes nothing.
    """
    cell = math.isqrt(pixels_per_token)
    least, most = pixel_bounds
    rows, columns = round(height / cell), round(width / cell)
    if rows * columns * cell**2 > most:
        scale = math.sqrt(height * width / most)
        rows, columns = max(1, math.floor(height / scale / cell)), max(1, math.floor(width / scale / cell))
    elif rows * columns * cell**2 < least:
        scale = math.sqrt(least / (height * width))
        rows, columns = math.ceil(height * scale / cell), math.ceil(width * scale / cell)
    return rows * columns
