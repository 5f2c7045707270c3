"""Questions about a scene, and their true answers. A question is asked only where its answer is beyond doubt."""

import itertools
import random
from dataclasses import dataclass

from chiasm.models.training.phrases import PHRASES, TWO_PICTURES
from chiasm.models.training.scenes import COLOURS, HELD_OUT_PAIRS, MOST_SHAPES, SHAPES, Scene, Thing

PLACES = ("top left", "top", "top right", "left", "centre", "right", "bottom left", "bottom", "bottom right")
PLACE_MARGIN = 0.04  # of the picture's side: as far a middle must be from the lines between two places
BESIDE_MARGIN = 0.12  # of the picture's side: as far two middles must be apart for "left of", "above" and so on
LARGER_RATIO = 1.35  # of the radii, for "which is larger"

Aspect = tuple[int, int, int]  # how much it matters for the answer to be further right, further down, larger
ASPECTS: dict[str, Aspect] = {
    "left of": (-1, 0, 0),
    "to the left of": (-1, 0, 0),
    "right of": (1, 0, 0),
    "to the right of": (1, 0, 0),
    "above": (0, -1, 0),
    "below": (0, 1, 0),
    "larger": (0, 0, 1),
}

ABOUT_ONE = ("background", "colour", "shape", "existence", "count", "reading")
ORDINALS = ("the first", "the second")

WEIGHTS = {
    "background": 0.6,
    "colour": 2.0,
    "shape": 1.2,
    "existence": 3.0,
    "count": 8.0,
    "position": 1.8,
    "relation": 2.5,
    "larger": 1.2,
    "reading": 6.0,
    "description": 0.6,
}
"""How often the trainer asks each kind, where it can be asked."""


@dataclass(frozen=True)
class Question:
    """One question, its kind, and the only right answer."""

    kind: str
    text: str
    answer: str
    meant: tuple[tuple[str, Thing], ...] = ()  # words of the text, and the one thing of the picture that they mean
    counted: str = ""  # words of the text for what is to be counted
    aspect: Aspect = (0, 0, 0)  # of two things that are meant: what is asked of the way from the second to the first


def plural(shape: str) -> str:
    """The plural of a shape's name."""
    return f"{shape}s"


def name_of(thing: Thing) -> str:
    """A shape by its colour and kind: "red circle"."""
    return "text" if thing.kind == "text" else f"{thing.colour} {thing.kind}"


_Found = tuple[dict[str, str], str, tuple[Thing, ...]]  # what fills the blanks, the answer, what {a} and {b} mean


class Asker:
    """Asks about scenes, with a random generator of its caller's."""

    def __init__(self, chance: random.Random) -> None:
        self._chance = chance

    def ask(self, scene: Scene, kind: str) -> Question | None:
        """A question of this kind, or None where none is beyond doubt."""
        maker = getattr(self, f"_{kind}")
        found: _Found | None = maker(scene)
        if found is None:
            return None
        blanks, answer, things = found
        meant = tuple(zip((blanks[blank] for blank in ("a", "b") if blank in blanks), things, strict=False))
        counted = blanks["a"] if kind == "count" else ""
        aspect = ASPECTS.get(blanks.get("r", kind), (0, 0, 0))
        return Question(kind, self._say(PHRASES[kind], blanks), answer, meant, counted, aspect)

    def some(self, scene: Scene, number: int) -> list[Question]:
        """As many questions of random kinds."""
        weights = dict(WEIGHTS)
        questions: list[Question] = []
        while len(questions) < number:
            [kind] = self._chance.choices(list(weights), list(weights.values()))
            question = self.ask(scene, kind)
            if question is not None:
                weights[kind] *= 0.7  # so that not all are of the few kinds that this scene allows
                questions.append(question)
        return questions

    def between(self, first: Scene, second: Scene) -> Question | None:
        """Any question about two pictures: comparing them, or about one of the two."""
        if self._chance.random() < 0.6:
            return self.compare(first, second, self._chance.choice(list(TWO_PICTURES)))
        index = self._chance.randrange(2)
        question = self.ask((first, second)[index], self._chance.choice(ABOUT_ONE))
        if question is None or "picture" in question.text or "image" in question.text:
            return None
        text = f"In {ORDINALS[index]} picture, {question.text[0].lower()}{question.text[1:]}"
        return Question(f"{question.kind} of one", text, question.answer)

    def compare(self, first: Scene, second: Scene, kind: str) -> Question | None:
        """A question about two pictures, or None where none is beyond doubt."""
        blanks: dict[str, str] = {}
        if kind == "same background":
            answer = _yes(first.background == second.background)
            if answer == "no" and self._chance.random() < 0.85:
                return None  # or one could always say no
        elif kind == "more":
            counts = len(first.shapes), len(second.shapes)
            if counts[0] == counts[1]:
                return None
            answer = ORDINALS[counts[1] > counts[0]]
        else:
            kinds = [{name_of(thing) for thing in scene.shapes} for scene in (first, second)]
            either = sorted(kinds[0] ^ kinds[1])
            if not either:
                return None
            wanted = self._chance.choice(either)
            blanks, answer = {"a": article(wanted)}, ORDINALS[wanted in kinds[1]]
        return Question(kind, self._say(TWO_PICTURES[kind], blanks), answer)

    def _say(self, phrases: tuple[str, ...], blanks: dict[str, str]) -> str:
        text = self._chance.choice(phrases).format_map({"k": self._chance.choice(("word", "number", "text")), **blanks})
        if "colour" in text and self._chance.random() < 0.4:
            text = text.replace("colour", "color")
        if "picture" in text and self._chance.random() < 0.25:
            text = text.replace("picture", "image")
        style = self._chance.random()
        if style < 0.08:
            text = text[0].lower() + text[1:]
        if style < 0.05 or style > 0.95:
            text = text.rstrip("?.")
        return text

    def exists(self, scene: Scene, colour: str, shape: str) -> Question:
        """Whether there is such a shape in the picture."""
        blanks, answer, _ = self._whether(scene, colour, shape)
        return Question("existence", self._say(PHRASES["existence"], blanks), answer)

    def _background(self, scene: Scene) -> _Found:
        return {}, scene.background, ()

    def _colour(self, scene: Scene) -> _Found | None:
        by_shape = [thing for thing in scene.things if _unique(scene, "kind", thing.kind)]
        if not by_shape:
            return None
        thing = self._chance.choice(by_shape)
        alone = len(scene.shapes) == 1 and thing.kind != "text"
        words = ("the shape", f"the {thing.kind}") if alone else (f"the {thing.kind}",)
        return {"a": self._chance.choice(words)}, thing.colour, (thing,)

    def _shape(self, scene: Scene) -> _Found | None:
        by_colour = [thing for thing in scene.shapes if _unique_shape_colour(scene, thing.colour)]
        if not by_colour:
            return None
        thing = self._chance.choice(by_colour)
        words = ["the {c} shape", "the {c} thing"] if scene.text is None else ["the {c} shape"]
        return {"a": self._chance.choice(words).format(c=thing.colour)}, thing.kind, (thing,)

    def _existence(self, scene: Scene) -> _Found | None:
        pairs = {(thing.colour, thing.kind) for thing in scene.shapes}
        shapes = {thing.kind for thing in scene.shapes}
        kind = self._chance.random()
        if kind < 0.12:
            return {"a": self._chance.choice(("a text", "any text"))}, _yes(scene.text is not None), ()
        if kind < 0.35:
            shape = self._either(SHAPES, shapes)
            return {"a": article(shape)}, _yes(shape in shapes), ()
        if pairs and self._chance.random() < 0.5:
            colour, shape = self._chance.choice(sorted(pairs))
        else:
            colour, shape = self._near_miss(pairs)
        return self._whether(scene, colour, shape)

    def _whether(self, scene: Scene, colour: str, shape: str) -> _Found:
        there = tuple(thing for thing in scene.shapes if (thing.colour, thing.kind) == (colour, shape))
        return {"a": article(f"{colour} {shape}")}, _yes(bool(there)), there if len(there) == 1 else ()

    def _near_miss(self, pairs: set[tuple[str, str]]) -> tuple[str, str]:
        """A pair that is not there, and as often as not shares its colour or its shape with one that is."""
        while True:
            colour, shape = self._chance.choice(COLOURS), self._chance.choice(SHAPES)
            if pairs and self._chance.random() < 0.7:
                seen_colour, seen_shape = self._chance.choice(sorted(pairs))
                colour, shape = (seen_colour, shape) if self._chance.random() < 0.5 else (colour, seen_shape)
            if (colour, shape) not in pairs and (colour, shape) not in HELD_OUT_PAIRS:
                return colour, shape

    def _either(self, names: tuple[str, ...], present: set[str]) -> str:
        absent = [name for name in names if name not in present]
        if present and (not absent or self._chance.random() < 0.5):
            return self._chance.choice(sorted(present))
        return self._chance.choice(absent)

    def _count(self, scene: Scene) -> _Found | None:
        if len(scene.shapes) > MOST_SHAPES:
            return None
        kind = self._chance.random()
        if kind < 0.4:
            return {"a": "shapes"}, str(len(scene.shapes)), ()
        if kind < 0.7:
            shape = self._likely(SHAPES, [thing.kind for thing in scene.shapes])
            return {"a": plural(shape)}, str(sum(thing.kind == shape for thing in scene.shapes)), ()
        colour = self._likely(COLOURS, [thing.colour for thing in scene.shapes])
        return {"a": f"{colour} shapes"}, str(sum(thing.colour == colour for thing in scene.shapes)), ()

    def _likely(self, names: tuple[str, ...], present: list[str]) -> str:
        return self._chance.choice(present if present and self._chance.random() < 0.85 else names)

    def _position(self, scene: Scene) -> _Found | None:
        clear = [(thing, place) for thing in scene.things if (place := place_of(scene, thing)) is not None]
        named = [(name, place, thing) for thing, place in clear if (name := self._reference(scene, thing)) is not None]
        if not named:
            return None
        name, place, thing = self._chance.choice(named)
        return {"a": name}, place, (thing,)

    def _relation(self, scene: Scene) -> _Found | None:
        two = self._two(scene, scene.things)
        if two is None:
            return None
        (one, a), (other, b) = two
        relations = []
        if abs(one.x - other.x) > BESIDE_MARGIN * scene.width:
            relations += [("left of", one.x < other.x), ("right of", one.x > other.x)]
            relations += [("to the left of", one.x < other.x), ("to the right of", one.x > other.x)]
        if abs(one.y - other.y) > BESIDE_MARGIN * scene.height:
            relations += 2 * [("above", one.y < other.y), ("below", one.y > other.y)]
        if not relations:
            return None
        relation, true = self._chance.choice(relations)
        return {"a": a, "b": b, "r": relation}, _yes(true), (one, other)

    def _larger(self, scene: Scene) -> _Found | None:
        two = self._two(scene, scene.shapes)
        if two is None:
            return None
        (one, a), (other, b) = two
        for (large, name), (small, _) in (((one, a), (other, b)), ((other, b), (one, a))):
            if large.radius > LARGER_RATIO * small.radius and large.area > LARGER_RATIO * small.area:
                return {"a": a, "b": b}, name, (one, other)
        return None

    def _two(self, scene: Scene, things: tuple[Thing, ...]) -> tuple[tuple[Thing, str], tuple[Thing, str]] | None:
        named = [(thing, name) for thing in things if (name := self._reference(scene, thing)) is not None]
        if len(named) < 2:
            return None
        one, other = self._chance.sample(named, 2)
        return one, other

    def _reference(self, scene: Scene, thing: Thing) -> str | None:
        """Words that mean this thing and no other of the scene."""
        if thing.kind == "text":
            return "the text" if _unique(scene, "kind", "text") else None
        words = []
        if sum((other.colour, other.kind) == (thing.colour, thing.kind) for other in scene.shapes) == 1:
            words += 3 * [f"the {name_of(thing)}"]
        if _unique(scene, "kind", thing.kind):
            words.append(f"the {thing.kind}")
        if _unique_shape_colour(scene, thing.colour):
            words.append(f"the {thing.colour} shape")
        if len(scene.shapes) == 1:
            words.append("the shape")
        return self._chance.choice(words) if words else None

    def _reading(self, scene: Scene) -> _Found | None:
        if scene.text is None or not _unique(scene, "kind", "text"):
            return None
        text = scene.text.text
        return {"k": "number" if text.isdigit() else "word" if len(text) > 1 else "text"}, text, ()

    def _description(self, scene: Scene) -> _Found | None:
        if not 1 <= len(scene.things) <= 3 or not _in_order(scene):
            return None
        ordered = sorted(scene.things, key=lambda thing: thing.x)
        names = [
            f'the {thing.colour} text "{thing.text}"' if thing.kind == "text" else article(name_of(thing))
            for thing in ordered
        ]
        listed = " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)
        return {}, f"{listed} on {article(scene.background)} background", ()


def place_of(scene: Scene, thing: Thing) -> str | None:
    """Which ninth of the picture a thing's middle lies in; None if it is too near to another."""
    column = _third(thing.x / scene.width)
    row = _third(thing.y / scene.height)
    return None if column is None or row is None else PLACES[3 * row + column]


def _third(share: float) -> int | None:
    if min(abs(share - 1 / 3), abs(share - 2 / 3)) < PLACE_MARGIN:
        return None
    return int(share * 3)


def _in_order(scene: Scene) -> bool:
    places = sorted(thing.x / scene.width for thing in scene.things)
    return all(right - left > BESIDE_MARGIN for left, right in itertools.pairwise(places))


def _unique(scene: Scene, attribute: str, value: str) -> bool:
    return [getattr(thing, attribute) for thing in scene.things].count(value) == 1


def _unique_shape_colour(scene: Scene, colour: str) -> bool:
    return sum(thing.colour == colour for thing in scene.shapes) == 1


def article(name: str) -> str:
    """A name with its indefinite article."""
    return f"an {name}" if name[0] in "aeiou" else f"a {name}"


def _yes(true: bool) -> str:
    return "yes" if true else "no"
