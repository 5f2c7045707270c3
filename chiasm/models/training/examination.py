"""What `pupil` gets right, by kind of question, on pictures that training never showed.

An examination is a list of questions with their pictures; who answers them (the trainer's own forward, the library's
`generate`, a running endpoint) is the caller's choice.
"""

import random
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Self

from chiasm.models.training.phrases import TWO_PICTURES
from chiasm.models.training.questions import PLACES, WEIGHTS, Asker, Question
from chiasm.models.training.scenes import HELD_OUT_PAIRS, MOST_SHAPES, WORDS, Scene, SceneMaker
from chiasm.models.training.talk import split_talk

ATTEMPTS = 2000  # for each exercise, on average
YES_OR_NO = ("yes", "no")
EQUALLY_OFTEN: dict[str, tuple[str, ...]] = {
    "existence": YES_OR_NO,
    "relation": YES_OR_NO,
    "same background": YES_OR_NO,
    "count": tuple(str(number) for number in range(MOST_SHAPES + 1)),
    "position": PLACES,
    "never shown: existence": YES_OR_NO,
}
"""Kinds with few answers, which come equally often: who always says the same gets no more than its share."""


MARKS = {
    **dict.fromkeys(("background", "colour", "shape", "existence"), 0.98),
    **dict.fromkeys(("position", "relation", "count"), 0.95),
    **dict.fromkeys(("reading: number", "reading: word"), 0.90),
    **dict.fromkeys(("never shown: colour", "never shown: shape", "never shown: existence"), 0.97),
    **dict.fromkeys(("fact", "chat"), 0.99),
}
"""The share that has to be right, of the kinds of exercise that `pupil` is meant for."""


@dataclass(frozen=True)
class Exercise:
    """A question and the scenes it is about."""

    kind: str
    scenes: tuple[Scene, ...]
    question: Question


def examination(seed: str, number: int) -> list[Exercise]:
    """About `number` exercises of each kind, of any size from 100 to 448 pixels. Equal seeds, equal exercises.

    Training scenes come from other seeds. The kinds "never shown" are about pairs of colour and shape that training
    leaves out, and texts are words, numbers and letters that it leaves out. Questions about pictures are worded as in
    training; talk is in wordings that training leaves out, of which there are only so many.
    """
    examiner = _Examiner(seed, number)
    for kind in WEIGHTS:
        if kind != "reading":
            examiner.set(kind, partial(examiner.about_one, kind))
    for what in ("number", "word", "letters"):
        examiner.set(f"reading: {what}", partial(examiner.reading, what))
    for kind in TWO_PICTURES:
        examiner.set(kind, partial(examiner.comparing, kind))
    examiner.set("about one of two", examiner.about_one_of_two)
    for kind in ("colour", "shape", "description"):
        examiner.set(f"never shown: {kind}", partial(examiner.about_a_pair, kind))
    examiner.set("never shown: existence", examiner.whether_a_pair)
    talk = split_talk()[1]
    random.Random(seed).shuffle(talk)
    for kind in ("fact", "chat", "story"):
        of_a_kind = [question for question in talk if question.kind == kind]
        examiner.exercises += [Exercise(kind, (), question) for question in of_a_kind[:number]]
    return examiner.exercises


_Attempt = Callable[[], tuple[tuple[Scene, ...], Question | None]]


class _Examiner:
    """Sets exercises, kind after kind."""

    def __init__(self, seed: str, number: int) -> None:
        self.exercises: list[Exercise] = []
        self._number = number
        self._maker = SceneMaker(f"examination {seed}")
        self._pairs = SceneMaker(f"pairs {seed}", held_out_pairs=True)
        self._texts = SceneMaker(f"texts {seed}", held_out_texts=True)
        self._chance = self._maker.random
        self._asker = Asker(self._chance)

    def set(self, kind: str, attempt: _Attempt) -> None:
        """As many exercises of this kind as there should be.

        Raises:
            ValueError: scenes hardly ever allow such a question, or such an answer.
        """
        answers = EQUALLY_OFTEN.get(kind, ())
        most = -(-self._number // len(answers)) if answers else self._number
        asked: Counter[str] = Counter()
        for _ in range(ATTEMPTS * self._number):
            if asked.total() == self._number:
                return
            scenes, question = attempt()
            if question is not None and (not answers or asked[question.answer] < most):
                asked[question.answer] += 1
                self.exercises.append(Exercise(kind, scenes, question))
        raise ValueError(f"{kind}: only {asked.total()} of {self._number} exercises came up, by answer {dict(asked)}")

    def about_one(self, kind: str) -> tuple[tuple[Scene, ...], Question | None]:
        scene = self._draw_up(self._maker)
        return (scene,), self._asker.ask(scene, kind)

    def reading(self, what: str) -> tuple[tuple[Scene, ...], Question | None]:
        scene = self._draw_up(self._texts)
        question = self._asker.ask(scene, "reading")
        text = question.answer if question is not None else ""
        found = "number" if text.isdigit() else "word" if text in WORDS else "letters"
        return (scene,), question if found == what else None

    def comparing(self, kind: str) -> tuple[tuple[Scene, ...], Question | None]:
        scenes = self._draw_up(self._maker), self._draw_up(self._maker)
        return scenes, self._asker.compare(*scenes, kind)

    def about_one_of_two(self) -> tuple[tuple[Scene, ...], Question | None]:
        scenes = self._draw_up(self._maker), self._draw_up(self._maker)
        question = self._asker.between(*scenes)
        return scenes, question if question is not None and question.kind.endswith("of one") else None

    def about_a_pair(self, kind: str) -> tuple[tuple[Scene, ...], Question | None]:
        scene = self._draw_up(self._pairs)
        question = self._asker.ask(scene, kind) if scene.shapes and scene.text is None else None
        return (scene,), question

    def whether_a_pair(self) -> tuple[tuple[Scene, ...], Question | None]:
        scene = self._draw_up(self._chance.choice((self._maker, self._pairs)))
        colour, shape = self._chance.choice(sorted(HELD_OUT_PAIRS))
        return (scene,), self._asker.exists(scene, colour, shape)

    @staticmethod
    def _draw_up(maker: SceneMaker) -> Scene:
        return maker.scene(*maker.size())


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
