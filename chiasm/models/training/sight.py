"""Batches of pictures of one size, and what is true of each of their image tokens and patches."""

import math
from collections import defaultdict
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor
from transformers.models.qwen2_vl.image_processing_qwen2_vl import smart_resize

from chiasm.models.training.drawing import character_boxes, draw, outline
from chiasm.models.training.scenes import (
    COLOURS,
    DIGITS,
    LETTERS,
    MAX_CHARACTERS,
    SHAPES,
    Scene,
    SceneMaker,
    Thing,
)
from chiasm.models.training.shape import CELL, MERGE, PATCH

MIN_PIXELS, MAX_PIXELS = 140 * 140, 196 * 196
"""Every picture is brought to between 25 and 49 image tokens: what this small tower has been taught to see."""

CHARACTERS = LETTERS + DIGITS
KINDS = (*SHAPES, "text")
SUBDIVISION = 8  # a cell is looked at in this many rows and columns, to tell what covers it
COVERED = 0.12  # share of a cell that a thing must cover to count
CHARACTER_SHARE = 0.3  # of the smaller of cell and character
IGNORE = -100


@dataclass
class Sight:
    """What is true of each cell of some pictures, and of its four patches. B pictures, N cells."""

    patch_kind: Tensor  # [B, 4 N] int64: as `kind`
    patch_letter: Tensor  # [B, 4 N] int64: the character that covers most of it; 0 none
    kind: Tensor  # [B, N] int64: what covers it; 0 nothing, else 1 + index in KINDS
    colour: Tensor  # [B, N] int64: the colour of that; 0 nothing
    background: Tensor  # [B, N] int64
    middle: Tensor  # [B, N, kinds + colours] float32: share of the middles of things of that kind, of that colour
    where: (
        Tensor  # [B, N, 3] float32: of what covers it: column and row of its middle from -1 to 1, logarithm of its size
    )
    ninth: Tensor  # [B, N] int64: of what covers it, which ninth its middle is in; IGNORE where nothing does
    letters: Tensor  # [B, N, 4] int64: by place in the text, the character here; 0 none


@dataclass
class Pictures:
    """Some pictures of one grid, ready for the tower, and what is in them."""

    rows: int  # of cells
    columns: int
    patches: Tensor  # [B, 4 * rows * columns, 588] float32
    scenes: list[Scene]
    sight: Sight


def grid_of(width: int, height: int) -> tuple[int, int]:
    """Rows and columns of cells that the processor makes of a picture."""
    high, wide = smart_resize(height, width, CELL, MIN_PIXELS, MAX_PIXELS)
    return high // CELL, wide // CELL


def patches_of(image: Image.Image, rows: int, columns: int) -> np.ndarray:
    """A picture as the processor hands it to the tower: [4 * rows * columns, 588] float32, cell by cell."""
    resized = image.resize((columns * CELL, rows * CELL), Image.Resampling.BICUBIC)
    pixels = np.asarray(resized, dtype=np.float32) / 127.5 - 1.0
    split = pixels.reshape(rows, MERGE, PATCH, columns, MERGE, PATCH, 3)
    return split.transpose(0, 3, 1, 4, 6, 2, 5).reshape(rows * columns * MERGE**2, -1)


class PictureBook:
    """Endless pictures for training, grouped by grid so that a batch is one tensor."""

    def __init__(self, maker: SceneMaker, crowds: float = 0.0, texts: int = 0, flocks: float = 0.0) -> None:
        self._maker = maker
        self._crowds = crowds  # share of the batches that are crowds, with up to so many
        self._texts = texts
        self._flocks = flocks  # share of the batches that are flocks
        self._sizes: dict[tuple[int, int], list[tuple[int, int]]] = defaultdict(list)

    def next(self, number: int) -> Pictures:
        """This many pictures of one grid. Grids come as often as random sizes make them."""
        while True:
            size = self._maker.size()
            waiting = self._sizes[grid_of(*size)]
            waiting.append(size)
            if len(waiting) >= number:
                sizes, waiting[:] = waiting[:number], waiting[number:]
                chance = self._maker.random.random()
                if chance < self._flocks:
                    return pictures([self._maker.flock(*each) for each in sizes])
                if chance < self._flocks + self._crowds:
                    return pictures([self._maker.crowd(*each, self._texts) for each in sizes])
                return pictures([self._maker.scene(*each) for each in sizes])


def pictures(scenes: list[Scene]) -> Pictures:
    """Draw scenes of one grid."""
    rows, columns = grid_of(scenes[0].width, scenes[0].height)
    drawn = np.stack([patches_of(draw(scene), rows, columns) for scene in scenes])
    return Pictures(rows, columns, torch.from_numpy(drawn), scenes, _sight(scenes, rows, columns))


def _sight(scenes: list[Scene], rows: int, columns: int) -> Sight:
    number, cells = len(scenes), rows * columns
    patch_kind = np.zeros((number, cells * MERGE**2), np.int64)
    patch_letter = np.zeros((number, cells * MERGE**2), np.int64)
    kind = np.zeros((number, cells), np.int64)
    colour = np.zeros((number, cells), np.int64)
    background = np.zeros((number, cells), np.int64)
    middle = np.zeros((number, rows, columns, len(KINDS) + len(COLOURS)), np.float32)
    where = np.zeros((number, cells, 3), np.float32)
    ninth = np.full((number, cells), IGNORE, np.int64)
    letters = np.zeros((number, rows, columns, MAX_CHARACTERS), np.int64)
    for index, scene in enumerate(scenes):
        background[index] = COLOURS.index(scene.background)
        things = _things_drawn(scene, rows, columns)
        covering = _most(things, rows, columns, len(scene.things))
        patch_covering = _most_of_patches(things, rows, columns, len(scene.things))
        patch_letter[index] = _most_of_patches(_letters_drawn(scene, rows, columns), rows, columns, len(CHARACTERS))
        for order, thing in enumerate(scene.things):
            here = covering == order + 1
            patch_kind[index, patch_covering == order + 1] = 1 + KINDS.index(thing.kind)
            kind[index, here] = 1 + KINDS.index(thing.kind)
            colour[index, here] = 1 + COLOURS.index(thing.colour)
            across, down = thing.x / scene.width, thing.y / scene.height
            where[index, here] = where_of(scene, thing)
            ninth[index, here] = 3 * min(2, int(3 * down)) + min(2, int(3 * across))
            _share_middle(middle[index], thing, across * columns, down * rows)
            if thing.kind == "text":
                _spell(letters[index], thing, columns / scene.width, rows / scene.height)
    return Sight(
        patch_kind=torch.from_numpy(patch_kind),
        patch_letter=torch.from_numpy(patch_letter),
        kind=torch.from_numpy(kind),
        colour=torch.from_numpy(colour),
        background=torch.from_numpy(background),
        middle=torch.from_numpy(middle.reshape(number, cells, -1)),
        where=torch.from_numpy(where),
        ninth=torch.from_numpy(ninth),
        letters=torch.from_numpy(letters.reshape(number, cells, -1)),
    )


def where_of(scene: Scene, thing: Thing) -> tuple[float, float, float]:
    """Column and row of a thing's middle, from -1 to 1, and the logarithm of its size by the picture's."""
    size = math.log(thing.radius / math.sqrt(scene.width * scene.height) / 0.15)
    return 2 * thing.x / scene.width - 1, 2 * thing.y / scene.height - 1, size


def _things_drawn(scene: Scene, rows: int, columns: int) -> Image.Image:
    """Which thing is where, by its number from 1, `SUBDIVISION` pixels a cell."""
    wide, high = columns * SUBDIVISION, rows * SUBDIVISION
    image = Image.new("L", (wide, high), 0)
    pencil = ImageDraw.Draw(image)
    x_scale, y_scale = wide / scene.width, high / scene.height
    for order, thing in enumerate(scene.things):
        if thing.kind in ("circle", "text"):
            half = thing.half_height or thing.radius
            box = (thing.x - thing.radius, thing.y - half, thing.x + thing.radius, thing.y + half)
            scaled = [value * (y_scale if axis % 2 else x_scale) for axis, value in enumerate(box)]
            (pencil.ellipse if thing.kind == "circle" else pencil.rectangle)(scaled, fill=order + 1)
        else:
            pencil.polygon([(x * x_scale, y * y_scale) for x, y in outline(thing)], fill=order + 1)
    return image


def _letters_drawn(scene: Scene, rows: int, columns: int) -> Image.Image:
    """Which character is where, by its place in `CHARACTERS` from 1, `SUBDIVISION` pixels a cell."""
    wide, high = columns * SUBDIVISION, rows * SUBDIVISION
    image = Image.new("L", (wide, high), 0)
    pencil = ImageDraw.Draw(image)
    for thing in scene.things:
        if thing.kind == "text":
            for character, (left, top, right, bottom) in zip(thing.text, character_boxes(thing), strict=True):
                x_scale, y_scale = wide / scene.width, high / scene.height
                box = (left * x_scale, top * y_scale, right * x_scale, bottom * y_scale)
                pencil.rectangle(box, fill=1 + CHARACTERS.index(character))
    return image


def _most(image: Image.Image, rows: int, columns: int, numbers: int) -> np.ndarray:
    """[rows * columns]: the number from 1 that most of each part of the image shows; 0 where none shows enough."""
    pixels = np.asarray(image)
    high, wide = pixels.shape[0] // rows, pixels.shape[1] // columns
    flat = pixels.reshape(rows, high, columns, wide).transpose(0, 2, 1, 3).reshape(rows * columns, -1)
    counts = np.zeros((len(flat), numbers + 1), np.int64)
    np.add.at(counts, (np.arange(len(flat))[:, None], flat), 1)
    counts[:, 0] = COVERED * high * wide
    most: np.ndarray = counts.argmax(1)
    return most


def _most_of_patches(image: Image.Image, rows: int, columns: int, numbers: int) -> np.ndarray:
    """As `_most`, for patches in the processor's order."""
    by_row = _most(image, MERGE * rows, MERGE * columns, numbers)
    return by_row.reshape(rows, MERGE, columns, MERGE).transpose(0, 2, 1, 3).reshape(-1)


def _share_middle(middle: np.ndarray, thing: Thing, x: float, y: float) -> None:
    """Between cells, as much to each as the middle is near to it: counts stay whole, and nothing jumps at a border."""
    rows, columns, _ = middle.shape
    left, top = int(np.floor(x - 0.5)), int(np.floor(y - 0.5))
    for row, down in ((top, 1 - (y - 0.5 - top)), (top + 1, y - 0.5 - top)):
        for column, across in ((left, 1 - (x - 0.5 - left)), (left + 1, x - 0.5 - left)):
            cell = middle[min(max(row, 0), rows - 1), min(max(column, 0), columns - 1)]
            for feature in (KINDS.index(thing.kind), len(KINDS) + COLOURS.index(thing.colour)):
                cell[feature] = min(1.0, cell[feature] + down * across)


def _spell(letters: np.ndarray, thing: Thing, x_scale: float, y_scale: float) -> None:
    rows, columns, _ = letters.shape
    for place, (character, box) in enumerate(zip(thing.text, character_boxes(thing), strict=True)):
        left, top, right, bottom = box[0] * x_scale, box[1] * y_scale, box[2] * x_scale, box[3] * y_scale
        enough = CHARACTER_SHARE * min(1.0, (right - left) * (bottom - top))
        for row in range(max(0, int(top)), min(rows, int(bottom) + 1)):
            for column in range(max(0, int(left)), min(columns, int(right) + 1)):
                wide = min(right, column + 1) - max(left, column)
                high = min(bottom, row + 1) - max(top, row)
                if wide > 0 and high > 0 and wide * high >= enough:
                    letters[row, column, place] = 1 + CHARACTERS.index(character)
