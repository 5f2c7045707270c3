"""Drawn pictures of which everything is known: coloured shapes, short texts, plain backgrounds.

The trainer learns from them, the examination and the drills ask about them. It must not import torch.
"""

import io
import math
import random
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from PIL import Image, ImageDraw, ImageFilter, ImageFont

SHAPES = ("circle", "square", "triangle", "star", "diamond")

# A few typical tones each, the pure ones among them; what is drawn lies between two of them.
PALETTE: dict[str, tuple[tuple[int, int, int], ...]] = {
    "red": ((255, 0, 0), (220, 40, 40), (190, 20, 35)),
    "orange": ((255, 165, 0), (245, 135, 30), (255, 125, 10)),
    "yellow": ((255, 255, 0), (245, 220, 50), (250, 235, 90)),
    "green": ((0, 128, 0), (50, 165, 70), (40, 205, 60)),
    "blue": ((0, 0, 255), (45, 95, 215), (30, 60, 165)),
    "purple": ((128, 0, 128), (135, 60, 175), (150, 85, 205)),
    "pink": ((255, 192, 203), (245, 150, 190), (255, 105, 180)),
    "brown": ((139, 69, 19), (120, 72, 40), (150, 95, 55)),
    "black": ((0, 0, 0), (25, 25, 28), (12, 10, 10)),
    "grey": ((128, 128, 128), (110, 112, 114), (152, 150, 150)),
    "white": ((255, 255, 255), (246, 245, 242), (238, 240, 244)),
}
COLOURS = tuple(PALETTE)
JITTER = 8

HELD_OUT_PAIRS = frozenset({("orange", "square"), ("purple", "triangle"), ("blue", "star")})
"""Colour and shape that no training picture shows together, and no training question names together."""

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
DIGITS = "0123456789"
_WORDS = """
AM AN AS AT BE BY DO GO HE HI IF IN IS IT ME MY NO OF OH OK ON OR OX PI SO TO UP US WE
ACE AIR ANT APE ARM ART ASH BAG BAT BED BEE BIG BOX BUS CAB CAN CAR CAT COW CUP DAY DOG DRY EAR EAT EGG END EYE FAN FAR
FIG FLY FOG FOX FUN GAS GUM HAT HEN HOT ICE INK JAM JAR JET JOY KEY KID LEG LOG MAP MIX MUD NET NEW NUT OAK OAR OFF OLD
ONE OWL PAN PEA PEN PIE PIG RAT RED RUN SAW SEA SIX SKI SKY SUN TAX TEA TEN TIN TOP TOY TWO VAN WAX WAY WEB WET WIN YES
ZIP ZOO
BABY BALL BANK BEAR BELL BIRD BLUE BOAT BOOK CAKE CAMP CITY CLUB COIN COLD CORN DEER DESK DOOR DRUM DUCK EAST EXIT FARM
FILM FIRE FISH FIVE FLAG FOOD FORK FOUR FROG GAME GATE GIFT GOAT GOLD HAND HILL HOME JAZZ JUMP KING KITE LAKE LAMP LEAF
LIFT LION MAIL MILK MOON MUSH NEST NINE NOSE OPEN OVEN PARK PLAN PLUM POOL PULL PUSH QUIZ RAIN RICE RING ROAD ROSE SALE
SALT SHIP SHOP SNOW SOAP SODA STOP TAXI TENT TIDE TOWN TREE WALK WALL WAVE WEST WIND WOLF WOOD YARD ZERO ZONE
"""
WORDS = tuple(_WORDS.split())
LOOKALIKES = frozenset("O0I1")
MAX_CHARACTERS = 4

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

SMALLEST, LARGEST = 100, 448  # pixels a side
MOST_SHAPES = 5
ENLARGED_BELOW = 300  # pixels a side; smaller pictures are drawn twice as large, and reduced
TRIES = 24  # to find room for a thing
COLOUR_DISTANCE = 120.0  # between what lies on each other; black to white is 765


@dataclass(frozen=True)
class Thing:
    """A shape, or a text. Lengths are in pixels of the picture."""

    kind: str  # one of SHAPES, or "text"
    colour: str
    rgb: tuple[int, int, int]
    x: float  # of its middle
    y: float
    radius: float  # of the circle around it; for a text half of its width
    angle: float = 0.0  # degrees
    text: str = ""
    font: str = ""
    half_height: float = 0.0  # of a text

    @property
    def area(self) -> float:
        """In square pixels, of a shape."""
        factor = {"circle": math.pi, "square": 2 * 0.9**2, "triangle": 1.299, "star": 1.32, "diamond": 1.6}
        return factor[self.kind] * self.radius**2


@dataclass(frozen=True)
class Scene:
    """Everything about one picture."""

    width: int
    height: int
    background: str
    background_rgb: tuple[int, int, int]
    things: tuple[Thing, ...]
    finish: str = "plain"  # how it was treated after drawing: plain, noise, blur or jpeg
    finish_seed: int = 0

    @property
    def shapes(self) -> tuple[Thing, ...]:
        """The things that are no text."""
        return tuple(thing for thing in self.things if thing.kind != "text")

    @property
    def text(self) -> Thing | None:
        """The text, if there is one."""
        return next((thing for thing in self.things if thing.kind == "text"), None)


class SceneMaker:
    """Draws up scenes from a seed: equal seeds, equal scenes.

    Args:
        seed: of the random numbers.
        held_out_pairs: show only pairs of colour and shape that training never showed, instead of never.
        held_out_texts: write only words and numbers that training never showed, instead of never.
    """

    def __init__(self, seed: int | str, held_out_pairs: bool = False, held_out_texts: bool = False) -> None:
        self.random = random.Random(seed)
        self._held_out_pairs = held_out_pairs
        self._held_out_texts = held_out_texts

    def size(self) -> tuple[int, int]:
        """Width and height of a picture."""
        return self.random.randint(SMALLEST, LARGEST), self.random.randint(SMALLEST, LARGEST)

    def scene(self, width: int, height: int) -> Scene:
        """An ordinary picture: up to five shapes, and perhaps a text."""
        shapes = self.random.choices(range(MOST_SHAPES + 1), (12, 24, 22, 16, 14, 12))[0]
        texts = int(shapes == 0 or (shapes <= 3 and self.random.random() < 0.4))
        return self._fill(width, height, texts, shapes, smallest=0.16, largest=0.5 if shapes < 3 else 0.38)

    def crowd(self, width: int, height: int, texts: int) -> Scene:
        """A picture as full as it gets, for learning to see: many things to recognise for the price of one picture.

        Of at most `texts` texts, and shapes wherever there is room left.
        """
        return self._fill(width, height, self.random.randint(1, texts), 30, smallest=0.14, largest=0.3)

    def pair(self, shape: str | None = None) -> tuple[str, str]:
        """A colour and a shape that may be shown, by their names."""
        while True:
            found = self.random.choice(COLOURS), shape or self.random.choice(SHAPES)
            if (found in HELD_OUT_PAIRS) == self._held_out_pairs:
                return found

    def words(self) -> str:
        """A text: a word, a number, or letters in no order."""
        while True:
            length = self.random.randint(1, MAX_CHARACTERS)
            kind = self.random.choices(("word", "number", "letters"), (2, 3, 5))[0]
            if kind == "word":
                text = self.random.choice(WORDS)
            else:
                text = "".join(self.random.choices(DIGITS if kind == "number" else LETTERS, k=length))
            if set(text) <= LOOKALIKES:
                continue  # nobody could tell
            if is_held_out_text(text) == self._held_out_texts:
                return text

    def _fill(self, width: int, height: int, texts: int, shapes: int, smallest: float, largest: float) -> Scene:
        background = self.random.choice(COLOURS)
        background_rgb = self._tone(background)
        unit = math.sqrt(width * height)
        things: list[Thing] = []
        for _ in range(texts):
            self._place(things, unit, lambda: self._text(width, height, background_rgb))
        for _ in range(shapes):
            self._place(things, unit, lambda: self._shape(things, width, height, background_rgb, smallest, largest))
        finish = self.random.choices(("plain", "noise", "blur", "jpeg"), (6, 1, 1, 2))[0]
        seed = self.random.getrandbits(32)
        return Scene(width, height, background, background_rgb, tuple(things), finish, seed)

    def _place(self, things: list[Thing], unit: float, draw_up: Callable[[], Thing | None]) -> None:
        gap = 0.025 * unit
        for _ in range(TRIES):
            thing = draw_up()
            if thing is not None and all(not _touch(thing, other, gap) for other in things):
                things.append(thing)
                return

    def _shape(
        self,
        things: list[Thing],
        width: int,
        height: int,
        background: tuple[int, int, int],
        smallest: float,
        largest: float,
    ) -> Thing | None:
        colour, kind = self.pair()
        shapes = [thing for thing in things if thing.kind != "text"]
        if shapes and self.random.random() < 0.5:  # equal colours and equal shapes are worth counting
            like = self.random.choice(shapes)
            colour, kind = (like.colour, kind) if self.random.random() < 0.5 else (colour, like.kind)
            if ((colour, kind) in HELD_OUT_PAIRS) != self._held_out_pairs:
                return None
        rgb = self._tone(colour)
        if colour_distance(rgb, background) < COLOUR_DISTANCE:
            return None
        room = 0.46 * min(width, height)
        radius = min(room, 0.5 * math.sqrt(width * height) * self.random.uniform(smallest, largest))
        x = self.random.uniform(radius, width - radius)
        y = self.random.uniform(radius, height - radius)
        return Thing(kind, colour, rgb, x, y, radius, self.random.uniform(-8, 8))

    def _text(self, width: int, height: int, background: tuple[int, int, int]) -> Thing | None:
        colour = self.random.choice(COLOURS)
        rgb = self._tone(colour)
        if colour_distance(rgb, background) < COLOUR_DISTANCE:
            return None
        text, font = self.words(), self.random.choice(FONTS)
        aspect = text_aspect(text, font)
        high = math.sqrt(width * height) * self.random.uniform(0.16, 0.34)
        high = min(high, 0.9 * width / aspect, 0.7 * height)
        half_width, half_height = high * aspect / 2, high / 2
        x = self.random.uniform(half_width, width - half_width)
        y = self.random.uniform(half_height, height - half_height)
        return Thing("text", colour, rgb, x, y, half_width, 0.0, text, font, half_height)

    def _tone(self, colour: str) -> tuple[int, int, int]:
        one, other = self.random.choices(PALETTE[colour], k=2)
        share = self.random.random()
        mixed = [a + share * (b - a) + self.random.uniform(-JITTER, JITTER) for a, b in zip(one, other, strict=True)]
        red, green, blue = (max(0, min(255, round(value))) for value in mixed)
        return red, green, blue


def is_held_out_text(text: str) -> bool:
    """One word and one number in seven; the sum of the characters decides."""
    return sum(map(ord, text)) % 7 == 0


def colour_distance(one: tuple[int, int, int], other: tuple[int, int, int]) -> float:
    """How different two colours look, 0 to 765: T. Riemersma's "redmean" approximation (compuphase.com/cmetric)."""
    red = (one[0] + other[0]) / 2
    r, g, b = (a - b for a, b in zip(one, other, strict=True))
    return math.sqrt((2 + red / 256) * r * r + 4 * g * g + (2 + (255 - red) / 256) * b * b)


def _touch(one: Thing, other: Thing, gap: float) -> bool:
    def half(thing: Thing) -> tuple[float, float]:
        return thing.radius, thing.half_height or thing.radius

    if one.kind != "text" and other.kind != "text":
        return math.hypot(one.x - other.x, one.y - other.y) < one.radius + other.radius + gap
    (one_w, one_h), (other_w, other_h) = half(one), half(other)
    return abs(one.x - other.x) < one_w + other_w + gap and abs(one.y - other.y) < one_h + other_h + gap


def outline(thing: Thing, scale: float = 1.0) -> list[tuple[float, float]]:
    """The corners of a shape that has some (so not of a circle), scaled."""
    turns = {
        "square": [(45 + 90 * k, 0.9) for k in range(4)],
        "triangle": [(-90 + 120 * k, 1.0) for k in range(3)],
        "diamond": [(-90 + 90 * k, 0.8 if k % 2 else 1.0) for k in range(4)],
        "star": [(-90 + 36 * k, 0.45 if k % 2 else 1.0) for k in range(10)],
    }[thing.kind]
    points = []
    for degrees, reach in turns:
        turn = math.radians(degrees + thing.angle)
        points.append(
            (
                scale * (thing.x + reach * thing.radius * math.cos(turn)),
                scale * (thing.y + reach * thing.radius * math.sin(turn)),
            )
        )
    return points


def draw(scene: Scene) -> Image.Image:
    """The picture, RGB."""
    scale = 2 if min(scene.width, scene.height) < ENLARGED_BELOW else 1
    image = Image.new("RGB", (scene.width * scale, scene.height * scale), scene.background_rgb)
    pencil = ImageDraw.Draw(image)
    for thing in scene.things:
        if thing.kind == "text":
            _write(pencil, thing, scale)
        elif thing.kind == "circle":
            box = [scale * v for v in (thing.x - thing.radius, thing.y - thing.radius)]
            box += [scale * v for v in (thing.x + thing.radius, thing.y + thing.radius)]
            pencil.ellipse(box, fill=thing.rgb)
        else:
            pencil.polygon(outline(thing, scale), fill=thing.rgb)
    if scale > 1:
        image = image.reduce(scale)
    return _finish(image, scene)


def _write(pencil: ImageDraw.ImageDraw, thing: Thing, scale: int) -> None:
    face = _face(thing.font, max(6, round(2 * thing.half_height * scale * POINTS_PER_HEIGHT)))
    left, top, right, bottom = face.getbbox(thing.text)
    x = thing.x * scale - (left + right) / 2
    y = thing.y * scale - (top + bottom) / 2
    pencil.text((x, y), thing.text, fill=thing.rgb, font=face)


def _finish(image: Image.Image, scene: Scene) -> Image.Image:
    chance = random.Random(scene.finish_seed)
    if scene.finish == "noise":
        noise = Image.effect_noise(image.size, chance.uniform(4, 12)).convert("RGB")
        return Image.blend(image, noise, 0.06)
    if scene.finish == "blur":
        return image.filter(ImageFilter.GaussianBlur(chance.uniform(0.3, 0.9)))
    if scene.finish == "jpeg":
        buffer = io.BytesIO()
        image.save(buffer, "JPEG", quality=chance.randint(60, 95))
        return Image.open(buffer).convert("RGB")
    return image


POINTS_PER_HEIGHT = 1.35  # font size that makes capital letters about as high as one wishes


def text_aspect(text: str, font: str) -> float:
    """Width of a text by its height, both of what is inked."""
    left, _, right, _ = _face(font, 64).getbbox(text)
    return float((right - left) / (64 / POINTS_PER_HEIGHT))


def character_boxes(thing: Thing) -> list[tuple[float, float, float, float]]:
    """Where each character of a text stands: left, top, right, bottom, in pixels of the picture."""
    face = _face(thing.font, 64)
    left, _, right, _ = face.getbbox(thing.text)
    shrink = 2 * thing.radius / max(1, right - left)
    boxes = []
    for index in range(len(thing.text)):
        begin = face.getlength(thing.text[:index]) - left
        end = face.getlength(thing.text[: index + 1]) - left
        start = thing.x - thing.radius
        boxes.append(
            (
                start + begin * shrink,
                thing.y - thing.half_height,
                start + end * shrink,
                thing.y + thing.half_height,
            )
        )
    return boxes


@lru_cache(maxsize=2048)
def _face(name: str, size: int) -> ImageFont.FreeTypeFont:
    import matplotlib

    return ImageFont.truetype(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / f"{name}.ttf", size)
