"""Drawn pictures of which everything is known: coloured shapes, short texts, plain backgrounds.

The trainer learns from them, the examination and the drills ask about them. It must not import torch.
"""

import math
import random
from collections.abc import Callable
from dataclasses import dataclass

from chiasm.models.training.lettering import FONTS, text_aspect

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

SMALLEST, LARGEST = 100, 448  # pixels a side
MOST_SHAPES = 5
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
        texts = int(shapes == 0 or (shapes <= 3 and self.random.random() < 0.5))
        return self._fill(width, height, texts, shapes, smallest=0.16, largest=0.5 if shapes < 3 else 0.38)

    def flock(self, width: int, height: int) -> Scene:
        """A picture of many shapes that are alike, for learning to count: ordinary ones seldom show three of a kind."""
        shapes = self.random.choices(range(2, MOST_SHAPES + 1), (2, 3, 4, 4))[0]
        return self._fill(width, height, 0, shapes, smallest=0.16, largest=0.38, alike=0.85)

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

    def _fill(
        self, width: int, height: int, texts: int, shapes: int, smallest: float, largest: float, alike: float = 0.5
    ) -> Scene:
        background = self.random.choice(COLOURS)
        background_rgb = self._tone(background)
        unit, sizes = math.sqrt(width * height), (smallest, largest)
        things: list[Thing] = []
        for _ in range(texts):
            self._place(things, unit, lambda: self._text(width, height, background_rgb))
        for _ in range(shapes):
            self._place(things, unit, lambda: self._shape(things, width, height, background_rgb, *sizes, alike))
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
        alike: float,
    ) -> Thing | None:
        colour, kind = self.pair()
        shapes = [thing for thing in things if thing.kind != "text"]
        if shapes and self.random.random() < alike:  # equal colours and equal shapes are worth counting
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
