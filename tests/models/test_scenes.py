"""The pictures that `pupil` learns from, and the truth of what is asked about them."""

import random
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from chiasm.models.builtin import picture_file
from chiasm.models.training.album import ALBUM
from chiasm.models.training.drawing import draw
from chiasm.models.training.examination import EQUALLY_OFTEN, examination
from chiasm.models.training.questions import PLACES, WEIGHTS, Asker, name_of, place_of
from chiasm.models.training.scenes import (
    COLOURS,
    HELD_OUT_PAIRS,
    LARGEST,
    SMALLEST,
    Scene,
    SceneMaker,
    Thing,
    colour_distance,
    is_held_out_text,
)
from chiasm.models.training.talk import split_talk

pytestmark = pytest.mark.slow

SCENES = 60


def scenes(seed: str, **held_out: bool) -> list[Scene]:
    maker = SceneMaker(seed, **held_out)
    return [maker.scene(*maker.size()) for _ in range(SCENES)]


def shape(kind: str, colour: str, x: float, y: float, radius: float = 20) -> Thing:
    return Thing(kind, colour, (0, 0, 0), x, y, radius)


def scene_of(*things: Thing) -> Scene:
    return Scene(300, 300, "white", (255, 255, 255), things)


def answers(scene: Scene, kind: str) -> dict[str, str]:
    """Many questions of one kind, with their answers."""
    asker = Asker(random.Random(1))
    found = [asker.ask(scene, kind) for _ in range(1500)]
    return {question.text.lower().rstrip("?."): question.answer for question in found if question is not None}


def test_equal_seeds_make_equal_scenes() -> None:
    assert scenes("one") == scenes("one")
    assert scenes("one") != scenes("other")


def test_in_a_flock_more_is_alike_than_in_an_ordinary_picture() -> None:
    def most_of_a_kind(scene: Scene) -> int:
        return max(Counter(thing.kind for thing in scene.shapes).values(), default=0)

    maker = SceneMaker("flock")
    flocks = [maker.flock(*maker.size()) for _ in range(SCENES)]
    assert all(flock.text is None for flock in flocks)
    assert sum(map(most_of_a_kind, flocks)) > 1.5 * sum(map(most_of_a_kind, scenes("flock")))


@pytest.mark.parametrize("finish", ["plain", "noise", "blur", "jpeg"])
def test_a_scene_is_drawn_the_same_each_time(finish: str) -> None:
    scene = replace(scenes("one")[0], finish=finish)
    assert draw(scene).tobytes() == draw(scene).tobytes()
    assert finish == "plain" or draw(scene).tobytes() != draw(replace(scene, finish="plain")).tobytes()


def test_training_never_shows_what_is_held_out() -> None:
    for scene in scenes("training"):
        assert not {(thing.colour, thing.kind) for thing in scene.things} & HELD_OUT_PAIRS
        assert scene.text is None or not is_held_out_text(scene.text.text)


def test_the_examination_shows_what_is_held_out() -> None:
    for scene in scenes("pairs", held_out_pairs=True):
        assert {(thing.colour, thing.kind) for thing in scene.shapes} <= HELD_OUT_PAIRS
    texts = [scene.text.text for scene in scenes("texts", held_out_texts=True) if scene.text is not None]
    assert texts
    assert all(is_held_out_text(text) for text in texts)


def test_no_training_question_names_a_held_out_pair() -> None:
    asker = Asker(random.Random(2))
    for scene in scenes("naming"):
        for question in asker.some(scene, 12):
            assert not any(f"{colour} {kind}" in question.text for colour, kind in HELD_OUT_PAIRS), question


def test_a_picture_shows_its_scene() -> None:
    for scene in scenes("drawing"):
        image = draw(scene)
        assert image.size == (scene.width, scene.height)
        assert SMALLEST <= min(image.size) <= max(image.size) <= LARGEST
        for thing in scene.shapes:
            pixel = image.getpixel((round(thing.x), round(thing.y)))
            assert isinstance(pixel, tuple)
            red, green, blue = map(int, pixel)
            nearest = colour_distance((red, green, blue), thing.rgb)
            assert nearest < colour_distance((red, green, blue), scene.background_rgb), (scene, thing)


def test_things_do_not_overlap() -> None:
    for scene in scenes("apart"):
        for index, one in enumerate(scene.shapes):
            for other in scene.shapes[index + 1 :]:
                assert (one.x - other.x) ** 2 + (one.y - other.y) ** 2 > (one.radius + other.radius) ** 2


@pytest.mark.parametrize("column", range(3))
@pytest.mark.parametrize("row", range(3))
def test_places_are_ninths_of_the_picture(row: int, column: int) -> None:
    thing = shape("star", "red", 50 + 100 * column, 50 + 100 * row)
    assert place_of(scene_of(thing), thing) == PLACES[3 * row + column]


def test_between_two_places_nobody_asks_where() -> None:
    assert answers(scene_of(shape("star", "red", 102, 50)), "position") == {}


def test_relations_are_true() -> None:
    scene = scene_of(shape("star", "red", 50, 60), shape("circle", "black", 200, 220))
    told = answers(scene, "relation")
    assert told["is the red star left of the black circle"] == "yes"
    assert told["is the red star above the black circle"] == "yes"
    assert told["is the red star to the right of the black circle"] == "no"
    assert told["is the black circle above the red star"] == "no"


def test_counts_are_true() -> None:
    scene = scene_of(*(shape("star", colour, 50 + 60 * i, 150) for i, colour in enumerate(("red", "red", "blue"))))
    told = answers(scene, "count")
    assert told["how many shapes are there"] == told["how many stars are there"] == "3"
    assert told["how many red shapes are there"] == "2"
    assert told["count the blue shapes"] == "1"


def test_existence_is_true() -> None:
    told = answers(scene_of(shape("star", "red", 50, 60)), "existence")
    assert told["is there a red star"] == "yes"
    for text, answer in told.items():
        colours = [colour for colour in COLOURS if f" {colour} " in f" {text} "]
        if colours and "star" in text:
            assert answer == ("yes" if colours == ["red"] else "no"), text


def test_the_larger_one_is_named_whatever_the_order() -> None:
    scene = scene_of(shape("star", "red", 80, 80, 60), shape("circle", "black", 240, 240, 20))
    told = answers(scene, "larger")
    assert told["which is larger, the red star or the black circle"] == "the red star"
    assert told["which is larger, the black circle or the red star"] == "the red star"


def test_a_description_goes_from_left_to_right() -> None:
    scene = scene_of(shape("star", "red", 250, 80), shape("circle", "orange", 50, 240))
    assert set(answers(scene, "description").values()) == {"an orange circle and a red star on a white background"}


def test_two_equal_things_have_no_name_of_their_own() -> None:
    scene = scene_of(shape("star", "red", 50, 50), shape("star", "red", 250, 250), shape("circle", "red", 150, 150))
    assert not any(name_of(scene.things[0]) in text for text in answers(scene, "position"))


def test_the_examination_is_the_same_for_all_and_complete() -> None:
    exercises = examination("test", 2)
    assert exercises == examination("test", 2)
    kinds = {exercise.kind for exercise in exercises}
    assert set(WEIGHTS) - {"reading"} <= kinds
    assert {"reading: word", "reading: number", "never shown: colour", "fact"} <= kinds


@pytest.mark.parametrize("kind", EQUALLY_OFTEN)
def test_who_always_says_the_same_fails_the_examination(kind: str) -> None:
    answers = Counter(exercise.question.answer for exercise in examination("balance", 18) if exercise.kind == kind)
    assert set(answers) == set(EQUALLY_OFTEN[kind])
    assert max(answers.values()) == 18 / len(EQUALLY_OFTEN[kind])


def test_half_of_the_pairs_asked_for_are_there_and_each_is_named() -> None:
    for exercise in examination("pairs", 12):
        if exercise.kind == "never shown: existence":
            [scene] = exercise.scenes
            [(colour, kind)] = [pair for pair in HELD_OUT_PAIRS if " ".join(pair) in exercise.question.text.lower()]
            there = any((thing.colour, thing.kind) == (colour, kind) for thing in scene.shapes)
            assert exercise.question.answer == ("yes" if there else "no")


def test_held_out_wordings_ask_for_what_was_taught() -> None:
    training, held_out = split_talk()
    assert not {question.text for question in training} & {question.text for question in held_out}
    assert {question.answer for question in held_out} <= {question.answer for question in training}


def test_the_bundled_pictures_are_those_of_the_album() -> None:
    for name, scene in ALBUM.items():
        bundled, drawn = (
            np.asarray(image.convert("RGB"), int) for image in (Image.open(picture_file(name)), draw(scene))
        )
        assert bundled.shape == drawn.shape
        assert np.abs(bundled - drawn).mean() < 2, name  # releases of Pillow draw edges alike, not the same
