"""The fonts of the texts in pictures, and how much room a text takes."""

from functools import lru_cache
from pathlib import Path

from PIL import ImageFont

FONTS = (
    "DejaVuSans",
    "DejaVuSans-Bold",
    "DejaVuSans-Oblique",
    "DejaVuSansMono",
    "DejaVuSansMono-Bold",
    "DejaVuSerif",
    "DejaVuSerif-Bold",
    "STIXGeneralBol",
)

POINTS_PER_HEIGHT = 1.35  # font size that makes capital letters about as high as one wishes


def text_aspect(text: str, font: str) -> float:
    """Width of a text by its height, both of what is inked."""
    left, _, right, _ = face(font, 64).getbbox(text)
    return float((right - left) / (64 / POINTS_PER_HEIGHT))


@lru_cache(maxsize=2048)
def face(name: str, size: int) -> ImageFont.FreeTypeFont:
    """One of the fonts, so many points high."""
    import matplotlib

    return ImageFont.truetype(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / f"{name}.ttf", size)
