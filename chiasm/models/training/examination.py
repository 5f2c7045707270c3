"""What `pupil` gets right, by kind of question, on pictures that training never showed.

An examination is a list of questions with their pictures; who answers them (the trainer's own forward, the library's
`generate`, a running endpoint) is the caller's choice.
"""

import random
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Self

from chiasm.models.training.questions import TWO_PICTURES, WEIGHTS, Asker, Question
from chiasm.models.training.scenes import Scene, SceneMaker
from chiasm.models.training.talk import split_talk

PAIR_KINDS = ("colour", "shape", "existence", "description")


@dataclass(frozen=True)
class Exercise:
    """A question and the scenes it is about."""

    kind: str
    scenes: tuple[Scene, ...]
    question: Question


def examination(seed: str, number: int) -> list[Exercise]:
    """About `number` exercises of each kind, of any size from 100 to 448 pixels. Equal seeds, equal exercises.

    Training scenes come from other seeds; `never shown` kinds show pairs of colour and shape, and texts are words and
    numbers, that training leaves out.
    """
    maker = SceneMaker(f"examination {seed}")
    asker = Asker(maker.random)
    exercises: list[Exercise] = []

    def fill(kind: str, attempt: Callable[[], tuple[tuple[Scene, ...], Question | None]]) -> None:
        found = 0
        while found < number:
            scenes, question = attempt()
            if question is not None:
                exercises.append(Exercise(kind, scenes, question))
                found += 1

    def one(kind: str, maker: SceneMaker) -> tuple[tuple[Scene, ...], Question | None]:
        scene = maker.scene(*maker.size())
        return (scene,), asker.ask(scene, kind)

    def two(kind: str) -> tuple[tuple[Scene, ...], Question | None]:
        scenes = maker.scene(*maker.size()), maker.scene(*maker.size())
        return scenes, asker.compare(*scenes, kind)

    for kind in WEIGHTS:
        if kind != "reading":
            fill(kind, lambda kind=kind: one(kind, maker))  # type: ignore[misc]
    texts = SceneMaker(f"texts {seed}", held_out_texts=True)
    for kind, wanted in (("reading numbers", True), ("reading words", False)):
        fill(kind, lambda wanted=wanted: _only(one("reading", texts), wanted))  # type: ignore[misc]
    for kind in TWO_PICTURES:
        fill(kind, lambda kind=kind: two(kind))  # type: ignore[misc]
    fill("about one of two", lambda: _between(maker, asker))
    pairs = SceneMaker(f"pairs {seed}", held_out_pairs=True)
    for kind in PAIR_KINDS:
        fill(f"never shown: {kind}", lambda kind=kind: _with_shapes(one(kind, pairs), kind))  # type: ignore[misc]
    talk = split_talk()[1]
    random.Random(seed).shuffle(talk)
    exercises += [Exercise(question.kind, (), question) for question in talk[: 4 * number]]
    return exercises


def _only(found: tuple[tuple[Scene, ...], Question | None], number: bool) -> tuple[tuple[Scene, ...], Question | None]:
    scenes, question = found
    return scenes, question if question is not None and question.answer.isdigit() == number else None


def _with_shapes(
    found: tuple[tuple[Scene, ...], Question | None], kind: str
) -> tuple[tuple[Scene, ...], Question | None]:
    """About the pair itself: not about a text, nor whether something else is there."""
    scenes, question = found
    if question is None or not scenes[0].shapes or "text" in question.text:
        return scenes, None
    return scenes, None if kind == "existence" and question.answer == "no" else question


def _between(maker: SceneMaker, asker: Asker) -> tuple[tuple[Scene, ...], Question | None]:
    scenes = maker.scene(*maker.size()), maker.scene(*maker.size())
    question = asker.between(*scenes)
    return scenes, question if question is not None and question.kind.endswith("of one") else None


class Marks:
    """Right and asked, by kind of exercise."""

    def __init__(self) -> None:
        self._asked: Counter[str] = Counter()
        self._right: Counter[str] = Counter()

    @classmethod
    def of(cls, exercises: Sequence[Exercise], answers: Sequence[str]) -> Self:
        """An answer is right if it is the expected one, character by character."""
        marks = cls()
        for exercise, answer in zip(exercises, answers, strict=True):
            marks.add(exercise.kind, answer == exercise.question.answer)
        return marks

    def add(self, kind: str, right: bool) -> None:
        """One answer."""
        self._asked[kind] += 1
        self._right[kind] += right

    def table(self) -> dict[str, dict[str, float]]:
        """`{kind: {"asked": n, "right": share}}`."""
        return {
            kind: {"asked": asked, "right": round(self._right[kind] / asked, 4)} for kind, asked in self._asked.items()
        }

    def __str__(self) -> str:
        return ", ".join(f"{kind} {100 * marks['right']:.1f}" for kind, marks in self.table().items())
