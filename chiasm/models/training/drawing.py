"""Scenes as pictures. Must not import torch."""

import io
import math
import random

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from chiasm.models.training.lettering import POINTS_PER_HEIGHT, face
from chiasm.models.training.scenes import Scene, Thing

ENLARGED_BELOW = 300  # pixels a side; smaller pictures are drawn twice as large, and reduced


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
    letters = face(thing.font, max(6, round(2 * thing.half_height * scale * POINTS_PER_HEIGHT)))
    left, top, right, bottom = letters.getbbox(thing.text)
    x = thing.x * scale - (left + right) / 2
    y = thing.y * scale - (top + bottom) / 2
    pencil.text((x, y), thing.text, fill=thing.rgb, font=letters)


def _finish(image: Image.Image, scene: Scene) -> Image.Image:
    chance = random.Random(scene.finish_seed)
    if scene.finish == "noise":
        # Pillow's own noise comes from a generator that cannot be seeded.
        grey = np.random.default_rng(scene.finish_seed).normal(128, chance.uniform(4, 12), image.size[::-1])
        noise = Image.fromarray(grey.clip(0, 255).astype(np.uint8)).convert("RGB")
        return Image.blend(image, noise, 0.06)
    if scene.finish == "blur":
        return image.filter(ImageFilter.GaussianBlur(chance.uniform(0.3, 0.9)))
    if scene.finish == "jpeg":
        buffer = io.BytesIO()
        image.save(buffer, "JPEG", quality=chance.randint(60, 95))
        return Image.open(buffer).convert("RGB")
    return image


def character_boxes(thing: Thing) -> list[tuple[float, float, float, float]]:
    """Where each character of a text stands: left, top, right, bottom, in pixels of the picture."""
    letters = face(thing.font, 64)
    left, _, right, _ = letters.getbbox(thing.text)
    shrink = 2 * thing.radius / max(1, right - left)
    boxes = []
    for index in range(len(thing.text)):
        begin = letters.getlength(thing.text[:index]) - left
        end = letters.getlength(thing.text[: index + 1]) - left
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
