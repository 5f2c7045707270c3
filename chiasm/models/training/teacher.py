"""What is asked in one lesson: questions about pictures, about pairs of them, and about none."""

import random

from chiasm.models.training.questions import Asker, Question
from chiasm.models.training.rows import Conversation
from chiasm.models.training.sight import Pictures
from chiasm.models.training.talk import vary

SYSTEMS = (
    "You are a helpful assistant.",
    "You are a helpful assistant. Answer briefly.",
    "Answer the question about the picture.",
    "You are pupil.",
)
CHAINED = 0.25  # of conversations have several turns instead of questions that stand alone
WITH_SYSTEM = 0.15
STORIES = 0.3  # of the conversations without pictures have one
CHAT = 0.25  # of the other questions without pictures; the rest are facts


class Teacher:
    """Makes the conversations of one lesson."""

    def __init__(self, chance: random.Random, talk: list[Question]) -> None:
        self._chance = chance
        self._asker = Asker(chance)
        self._talk = {kind: [each for each in talk if each.kind == kind] for kind in ("chat", "fact", "story")}

    def about(self, book: Pictures, questions: int) -> list[Conversation]:
        """One conversation about each picture."""
        chained = self._chance.random() < CHAINED
        return [
            Conversation(
                ((book.rows, book.columns),),
                self._asker.some(scene, questions),
                (scene,),
                apart=not chained,
                system=self._system(),
            )
            for scene in book.scenes
        ]

    def comparing(self, first: Pictures, second: Pictures, questions: int) -> list[Conversation]:
        """One conversation about each pair of pictures."""
        grids = ((first.rows, first.columns), (second.rows, second.columns))
        conversations = []
        for pair in zip(first.scenes, second.scenes, strict=True):
            asked: list[Question] = []
            while len(asked) < questions:
                question = self._asker.between(*pair)
                if question is not None:
                    asked.append(question)
            conversations.append(Conversation(grids, asked, apart=True, system=self._system()))
        return conversations

    def talking(self, rows: int, questions: int) -> list[Conversation]:
        """Conversations without pictures."""
        conversations = []
        for _ in range(rows):
            kinds = self._chance.choices(("chat", "fact"), (CHAT, 1 - CHAT), k=questions)
            if self._chance.random() < STORIES:
                kinds.append("story")
            asked = [self._chance.choice(self._talk[kind]) for kind in kinds]
            conversations.append(Conversation((), [vary(question, self._chance) for question in asked]))
        return conversations

    def _system(self) -> str:
        return self._chance.choice(SYSTEMS) if self._chance.random() < WITH_SYSTEM else ""
