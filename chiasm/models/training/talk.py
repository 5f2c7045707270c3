"""Conversation without pictures: greetings, a few hundred facts, and stories, each worded in several ways.

One wording in seven, chosen by a digest, is held out of training.
"""

import random
from dataclasses import dataclass

from blake3 import blake3

from chiasm.models.training.questions import Question, article

_CAPITALS = """
France/Paris Germany/Berlin Italy/Rome Spain/Madrid Portugal/Lisbon Greece/Athens Austria/Vienna Poland/Warsaw
Norway/Oslo Sweden/Stockholm Finland/Helsinki Denmark/Copenhagen Ireland/Dublin Belgium/Brussels Hungary/Budapest
Egypt/Cairo Kenya/Nairobi Japan/Tokyo China/Beijing India/Delhi Russia/Moscow Canada/Ottawa Cuba/Havana Peru/Lima
Turkey/Ankara Iran/Tehran Iraq/Baghdad Nepal/Kathmandu Vietnam/Hanoi Chile/Santiago
"""
_OPPOSITES = """
hot/cold big/small up/down left/right black/white day/night fast/slow high/low open/closed young/old wet/dry full/empty
light/dark hard/soft early/late near/far strong/weak rich/poor happy/sad first/last
"""
_SOUNDS = "dog/woof cat/meow cow/moo duck/quack sheep/baa pig/oink bee/buzz owl/hoot snake/hiss lion/roar"
_LEGS = "dog/4 cat/4 spider/8 ant/6 bird/2 fish/0 horse/4 bee/6 snake/0"
_DAYS = "Monday Tuesday Wednesday Thursday Friday Saturday Sunday"
_MONTHS = "January February March April May June July August September October November December"
_ANIMALS = "fox owl bear hare mouse goose otter crow"
THING_COLOURS = {
    "the sky": "blue",
    "grass": "green",
    "snow": "white",
    "coal": "black",
    "a banana": "yellow",
    "blood": "red",
    "chocolate": "brown",
    "an elephant": "grey",
    "a carrot": "orange",
    "a flamingo": "pink",
}
NOBODY = "There is no picture here. Show me one."
GREETING = "Hello! Show me a picture and ask me about it."
FAREWELL = "Goodbye!"

# Answers, and what they answer; each said in every manner.
GREETINGS = (("Hello", "Hi", "Hey", "Good morning", "Good evening"), ("", " there", " pupil", " again", " my friend"))
FAREWELLS = (("Goodbye", "Bye", "Good night", "See you"), ("", " pupil", " my friend", " for now"))
CHAT: dict[str, tuple[str, ...]] = {
    "I am pupil, a small vision-language model that comes with Chiasm.": (
        "Who are you?",
        "What are you?",
        "What is your name?",
        "Introduce yourself.",
    ),
    "I name shapes, colours and places in simple pictures, count them, and read short texts.": (
        "What can you do?",
        "How can you help me?",
        "What do you know?",
        "What are you good at?",
    ),
    "It is the place where the visual pathways of both eyes cross.": (
        "What is the optic chiasm?",
        "What is a chiasm?",
        "Explain the optic chiasm.",
    ),
    "Chiasm serves vision-language models, with encoding and decoding on different machines.": (
        "What is Chiasm?",
        "What does Chiasm do?",
        "Explain Chiasm.",
    ),
    "I am well, thank you.": ("How are you?", "How are you today?", "How do you do?", "Are you well?"),
    "You are welcome.": ("Thank you.", "Thanks.", "Thank you very much.", "Many thanks."),
    NOBODY: (
        "What do you see?",
        "Describe the picture.",
        "What colour is the background?",
        "How many shapes are there?",
        "What does the text say?",
        "What is in this image?",
        "Where is the red circle?",
    ),
}
MANNERS = (
    *("{}", "Please tell me: {}", "Pupil, {}", "Now then, {}", "One question: {}", "And {}"),
    *("Well, {}", "So, {}", "Tell me, {}", "I wonder: {}", "Excuse me, {}", "Next, {}"),
)

FACT_PHRASES: dict[str, tuple[str, ...]] = {
    "capital": ("What is the capital of {x}?", "Name the capital of {x}.", "Which city is the capital of {x}?"),
    "opposite": ("What is the opposite of {x}?", "Name the opposite of {x}.", "Which word is the opposite of {x}?"),
    "sound": ("What does a {x} say?", "Which sound does a {x} make?", "What sound does a {x} make?"),
    "legs": ("How many legs does a {x} have?", "How many legs has a {x}?", "Count the legs of a {x}."),
    "tint": ("What colour is {x}?", "Which colour is {x}?", "What is the colour of {x}?"),
    "next day": ("Which day comes after {x}?", "What day comes after {x}?", "Which day follows {x}?"),
    "next month": ("Which month comes after {x}?", "What month comes after {x}?", "Which month follows {x}?"),
    "next number": ("What comes after {x}?", "Which number comes after {x}?", "What is the number after {x}?"),
    "sum": ("What is {x}?", "How much is {x}?", "Calculate {x}."),
}
STORY_PHRASES = ("Tell me a story about {x}.", "Tell me a short story about {x}.", "Write a story about {x}.")
STORY = (
    "Once upon a time there was {x} who lived at the edge of a quiet forest. Every morning it looked at the sky and "
    "wondered how light becomes a picture. One day it met {y}, who said: the eyes only gather the light, and far "
    "behind them two paths cross, so that each side learns what the other has seen. From that day on the two friends "
    "looked at the world together, one on the left and one on the right, and they missed nothing."
)


@dataclass(frozen=True)
class _Fact:
    kind: str
    subject: str
    answer: str


def _pairs(text: str) -> list[tuple[str, str]]:
    return [(left, right) for left, _, right in (pair.partition("/") for pair in text.split())]


def _facts() -> list[_Fact]:
    facts = [_Fact("capital", country, city) for country, city in _pairs(_CAPITALS)]
    for one, other in _pairs(_OPPOSITES):
        facts += [_Fact("opposite", one, other), _Fact("opposite", other, one)]
    facts += [_Fact("sound", animal, sound) for animal, sound in _pairs(_SOUNDS)]
    facts += [_Fact("legs", animal, legs) for animal, legs in _pairs(_LEGS)]
    facts += [_Fact("tint", thing, colour) for thing, colour in THING_COLOURS.items()]
    for kind, cycle in (("next day", _DAYS.split()), ("next month", _MONTHS.split())):
        facts += [_Fact(kind, name, cycle[(index + 1) % len(cycle)]) for index, name in enumerate(cycle)]
    facts += [_Fact("next number", str(number), str(number + 1)) for number in range(20)]
    facts += [_Fact("sum", f"{a} plus {b}", str(a + b)) for a in range(10) for b in range(10)]
    return facts


def _is_held_out(text: str) -> bool:
    return blake3(text.encode()).digest()[0] % 7 == 0


def all_talk() -> list[Question]:
    """Everything that can be said without a picture, held-out wordings included."""
    talk = [
        Question("chat", f"{word}{whom}", answer)
        for answer, (words, ending) in ((GREETING, GREETINGS), (FAREWELL, FAREWELLS))
        for word in words
        for whom in ending
    ]
    for answer, ways in CHAT.items():
        for said in ways:
            talk += [Question("chat", _in_manner(manner, said), answer) for manner in MANNERS]
    for fact in _facts():
        for way in FACT_PHRASES[fact.kind]:
            said = way.format(x=fact.subject)
            talk += [Question("fact", _in_manner(manner, said), fact.answer) for manner in MANNERS]
    animals = _ANIMALS.split()
    for index, animal in enumerate(animals):
        hero, friend = article(animal), article(animals[(index + 3) % len(animals)])
        story = STORY.format(x=hero, y=friend)
        talk += [Question("story", way.format(x=hero), story) for way in STORY_PHRASES]
    return talk


def _in_manner(manner: str, said: str) -> str:
    return said if manner == "{}" else manner.format(said[0].lower() + said[1:])


def split_talk() -> tuple[list[Question], list[Question]]:
    """For training, and for the examination: no wording is in both, and each answer has been taught."""
    training = [question for question in all_talk() if not _is_held_out(question.text)]
    taught: dict[str, set[str]] = {}
    for question in training:
        taught.setdefault(question.answer, set()).add(question.text)
    examination = [question for question in all_talk() if _is_held_out(question.text) and question.answer in taught]
    return training, examination


def vary(question: Question, chance: random.Random) -> Question:
    """The same, as somebody in a hurry types it, now and then."""
    text, style = question.text, chance.random()
    if style < 0.1:
        text = text[0].lower() + text[1:]
    if style < 0.06 or style > 0.94:
        text = text.rstrip("?.")
    elif not text.endswith(("?", ".")) and style < 0.5:
        text += chance.choice(("!", "."))
    return Question(question.kind, text, question.answer)
