"""Draw the pictures that come with the package: `python -m chiasm.models.training.album`.

Composed by hand, so none is a training picture. The blue star and the orange square are pairs of colour and shape that
training never showed, and LEAF and 2027 are texts that it never showed.
"""

from pathlib import Path

from chiasm.models.training.drawing import draw
from chiasm.models.training.lettering import text_aspect
from chiasm.models.training.scenes import PALETTE, Scene, Thing

FOLDER = Path(__file__).parent.parent / "pictures"


def _shape(name: str, x: float, y: float, radius: float, angle: float = 0.0) -> Thing:
    colour, kind = name.split()
    return Thing(kind, colour, PALETTE[colour][1], x, y, radius, angle)


def _text(text: str, colour: str, x: float, y: float, height: float, font: str) -> Thing:
    half_width = height * text_aspect(text, font) / 2
    return Thing("text", colour, PALETTE[colour][1], x, y, half_width, 0.0, text, font, height / 2)


def _scene(width: int, height: int, background: str, *things: Thing) -> Scene:
    return Scene(width, height, background, PALETTE[background][1], things)


ALBUM = {
    "blue-star": _scene(240, 240, "white", _shape("blue star", 120, 125, 52)),
    "two-sizes": _scene(320, 220, "grey", _shape("green diamond", 90, 110, 70), _shape("yellow circle", 245, 125, 36)),
    "corner": _scene(260, 300, "black", _shape("red circle", 212, 48, 34), _shape("pink triangle", 90, 210, 42, 5)),
    "five": _scene(
        400,
        260,
        "yellow",
        _shape("red triangle", 60, 70, 40),
        _shape("blue circle", 190, 60, 36),
        _shape("green star", 330, 75, 44),
        _shape("black square", 110, 195, 40, -4),
        _shape("purple diamond", 270, 190, 48),
    ),
    "leaf": _scene(360, 200, "brown", _text("LEAF", "white", 180, 100, 70, "DejaVuSans-Bold")),
    "year": _scene(
        280,
        300,
        "purple",
        _text("2027", "yellow", 140, 90, 62, "DejaVuSerif-Bold"),
        _shape("orange square", 140, 220, 40),
    ),
}


def main() -> None:
    """Write every picture of the album as a PNG file."""
    FOLDER.mkdir(exist_ok=True)
    for name, scene in ALBUM.items():
        draw(scene).save(FOLDER / f"{name}.png", optimize=True)


if __name__ == "__main__":
    main()
