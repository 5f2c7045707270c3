"""Conversations as token rows: what the trainer's losses are told of them."""

import pytest

from chiasm.models.training.questions import ASPECTS, Question
from chiasm.models.training.scenes import Scene, Thing

pytestmark = pytest.mark.engine  # no engine, but torch takes seconds

LEFT = Thing("circle", "red", (255, 0, 0), 50.0, 100.0, 30.0)
RIGHT = Thing("square", "blue", (0, 0, 255), 150.0, 60.0, 15.0)
TEXT = Thing("text", "black", (0, 0, 0), 100.0, 160.0, 40.0, 0.0, "7B", "DejaVuSans", 12.0)
SCENE = Scene(200, 200, "white", (255, 255, 255), (LEFT, RIGHT, TEXT))
COMPARING = Question(
    "relation",
    "Is the red circle left of the blue square?",
    "yes",
    (("the red circle", LEFT), ("the blue square", RIGHT)),
    aspect=ASPECTS["left of"],
)
COUNTING = Question("count", "How many red shapes are there?", "1", counted="red shapes")
READING = Question("reading", "What does the text say?", "7B")


@pytest.mark.parametrize("apart", [True, False])
def test_rows_know_where_is_read_and_counted_and_compared_and_meant(apart: bool) -> None:
    from chiasm.models.training.rows import ALL_ASPECTS, Conversation, Scribe
    from chiasm.models.training.sight import CHARACTERS
    from chiasm.models.training.vocabulary import train_tokenizer

    tokenizer = train_tokenizer()
    other = Conversation(((5, 5),), [Question("background", "What colour is the background?", "white")], (SCENE,))
    asked = [COMPARING, READING, COUNTING]
    rows = Scribe(tokenizer).rows([other, Conversation(((6, 6),), asked, (SCENE,), apart=apart)])

    def tokens(kind: str, places: list[list[int]]) -> list[str]:
        return [tokenizer.decode([int(getattr(rows, kind)[row, place])]) for row, place in places]

    assert tokens("targets", rows.read.tolist()[:2]) == ["7", "B"]
    assert [CHARACTERS[letter - 1] for letter in rows.letters.tolist()[:2]] == ["7", "B"]
    assert tokens("ids", rows.read.tolist()[1:]) == ["7", "B"]  # after which the next is read, or none
    assert rows.letters.tolist()[2] == 0
    assert rows.turns.tolist() == [0, 1, 2]

    assert tokens("ids", rows.counted.tolist()) == [" shapes"]
    assert tokens("targets", rows.counting.tolist()) == ["1"]
    assert rows.numbers.tolist() == [1]

    assert tokens("targets", rows.compared.tolist()) == ["yes"]
    assert tokens("ids", rows.named.tolist()) == [" square"]
    assert [ALL_ASPECTS[aspect] for aspect in rows.aspects.tolist()] == [COMPARING.aspect]
    [[across, down, larger, asked]] = rows.differences.tolist()
    assert (across, down) == pytest.approx((-1.0, 0.4))  # by halves of the picture: further left, and lower
    assert larger > 0
    assert asked == pytest.approx(-across)  # so much further left, as is asked
    assert [token.strip() for token in tokens("ids", rows.meant.tolist())] == ["circle", "square"]
