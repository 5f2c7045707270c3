"""Conversations as rows of tokens, in the chat template's very form."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from tokenizers import Tokenizer
from torch import Tensor

from chiasm.models.training.questions import ASPECTS, Question
from chiasm.models.training.scenes import COLOURS, Scene
from chiasm.models.training.sight import CHARACTERS, KINDS, where_of
from chiasm.models.training.vocabulary import Words

ALL_ASPECTS = tuple(dict.fromkeys(ASPECTS.values()))


@dataclass
class Conversation:
    """Pictures (by their grids) and questions; `apart`: each question as if it were the only one."""

    grids: tuple[tuple[int, int], ...]
    questions: list[Question]
    scenes: tuple[Scene, ...] = ()  # for what the questions mean
    apart: bool = True
    system: str = ""


@dataclass
class Rows:
    """Conversations as token rows. B rows of L tokens."""

    ids: Tensor  # [B, L] int64
    positions: Tensor  # [3, B, L] float32, M-RoPE
    mask: Tensor  # [B, 1, L, L] bool: what each token may see
    weights: Tensor  # [B, L] float32: how much predicting the *next* token counts
    targets: Tensor  # [B, L] int64: the next token
    meant: Tensor  # [M, 2] int64: row and place of a token that ends the words for one thing of the picture
    traits: Tensor  # [M, 3] float32: where that thing is, as `Sight.where`
    names: Tensor  # [M, 2] int64: its kind and its colour, by their places in KINDS and COLOURS
    read: Tensor  # [R, 2] int64: row and place of a token after which a character is to be read, or none is left
    turns: Tensor  # [R] int64: how many characters have been read before
    letters: Tensor  # [R] int64: that character, by its place in CHARACTERS from 1; 0 none
    counted: Tensor  # [K, 2] int64: row and place of a token that ends the words for what is to be counted
    counting: Tensor  # [K, 2] int64: row and place of the token before the answer to that
    numbers: Tensor  # [K] int64: how many there are
    compared: Tensor  # [C, 2] int64: row and place of the token before an answer that compares two things
    named: Tensor  # [C, 2] int64: row and place of the token that ends the words for the second of the two
    aspects: Tensor  # [C] int64: in what they are compared, by its place in `ALL_ASPECTS`
    differences: Tensor  # [C, 4] float32: by how much the first exceeds the second in each of its traits, and as asked


class Scribe:
    """Writes conversations as rows of tokens, in the chat template's very form."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._words = Words(tokenizer)

    def rows(self, conversations: Sequence[Conversation]) -> Rows:
        """All of them, padded to the longest."""
        written = [self._row(conversation) for conversation in conversations]
        length = max(len(row.ids) for row in written)
        number = len(written)
        ids = np.full((number, length), self._words.pad, np.int64)
        positions = np.zeros((3, number, length), np.float32)
        groups = np.full((number, length), -1, np.int64)
        weights = np.zeros((number, length), np.float32)
        for index, row in enumerate(written):
            ids[index, : len(row.ids)] = row.ids
            positions[:, index, : len(row.ids)] = np.array(row.positions, np.float32).T
            groups[index, : len(row.ids)] = row.groups
            for begin, end in row.answers:
                weights[index, begin:end] = (end - begin) ** -0.5
        targets = np.roll(ids, -1, axis=1)
        seen = (groups[:, None, :] == groups[:, :, None]) | (groups[:, None, :] == 0) & (groups[:, :, None] > 0)
        mask = seen & np.tril(np.ones((length, length), bool))
        return Rows(
            ids=torch.from_numpy(ids),
            positions=torch.from_numpy(positions),
            mask=torch.from_numpy(mask)[:, None],
            weights=torch.from_numpy(weights),
            targets=torch.from_numpy(targets),
            meant=torch.tensor([(index, place) for index, row in enumerate(written) for place, _, _ in row.meant]).view(
                -1, 2
            ),
            traits=torch.tensor([where for row in written for _, where, _ in row.meant]).view(-1, 3),
            names=torch.tensor([names for row in written for _, _, names in row.meant], dtype=torch.int64).view(-1, 2),
            read=_places([[place for place, _, _ in row.read] for row in written]),
            turns=torch.tensor([turn for row in written for _, turn, _ in row.read], dtype=torch.int64),
            letters=torch.tensor([letter for row in written for _, _, letter in row.read], dtype=torch.int64),
            counted=_places([[place for place, _, _ in row.counted] for row in written]),
            counting=_places([[place for _, place, _ in row.counted] for row in written]),
            numbers=torch.tensor([number for row in written for _, _, number in row.counted], dtype=torch.int64),
            compared=_places([[place for _, place, _, _ in row.compared] for row in written]),
            named=_places([[place for place, _, _, _ in row.compared] for row in written]),
            aspects=torch.tensor([aspect for row in written for _, _, aspect, _ in row.compared], dtype=torch.int64),
            differences=torch.tensor([way for row in written for _, _, _, way in row.compared]).view(-1, 4),
        )

    def _row(self, conversation: Conversation) -> "_Row":
        words, row = self._words, _Row()
        if conversation.system:
            row.text(words.message("system", conversation.system), 0)
        row.text(words.begin("user"), 0)
        for rows, columns in conversation.grids:
            row.text([words.vision_start], 0)
            row.picture(words.image, rows, columns)
            row.text([words.vision_end], 0)
        # With pictures, questions that are apart share what came so far; without, they share nothing.
        start = row.next_position
        shared = list(range(len(row.ids)))
        for order, question in enumerate(conversation.questions):
            if conversation.apart:
                row.next_position = start
                if not conversation.grids and order:
                    row.next_position = 0
                    row.text(words.begin("user"), order + 1)
            elif order:
                row.text([words.end, *words.newline, *words.begin("user")], 0)
            group = order + 1 if conversation.apart else 0
            start_of_text = len(row.ids)
            for phrase, thing in question.meant if conversation.scenes else ():
                names = KINDS.index(thing.kind), COLOURS.index(thing.colour)
                row.meant.append(
                    (self._end_of(phrase, question, start_of_text), where_of(conversation.scenes[0], thing), names)
                )
            row.text([*words.encode(question.text), words.end, *words.newline, *words.begin("assistant")], group)
            answer = [*words.encode(question.answer), words.end]
            begin = len(row.ids) - 1  # the token before the answer predicts its first
            if question.kind == "reading":
                letters = [*(1 + CHARACTERS.index(letter) for letter in question.answer), 0]
                row.read += [(begin + turn, turn, letter) for turn, letter in enumerate(letters)]
            if question.counted:
                end = self._end_of(question.counted, question, start_of_text)
                row.counted.append((end, begin, int(question.answer)))
            if conversation.scenes and len(question.meant) == 2:
                one, other = (where_of(conversation.scenes[0], thing) for _, thing in question.meant)
                ways = [a - b for a, b in zip(one, other, strict=True)]
                asked = sum(weight * way for weight, way in zip(question.aspect, ways, strict=True))
                row.compared.append((row.meant[-1][0], begin, ALL_ASPECTS.index(question.aspect), (*ways, asked)))
            row.text(answer[:-1] if not conversation.apart else answer, group)
            row.answers.append((begin, begin + len(answer)))
        if not conversation.apart:
            row.text([words.end], 0)
        elif not conversation.grids:
            for index in shared:
                row.groups[index] = 1  # the first question's own beginning
        return row

    def _end_of(self, phrase: str, question: Question, start: int) -> int:
        """Place of the last token of some words of a question that starts at a place."""
        before = question.text[: question.text.lower().index(phrase) + len(phrase)]
        return start + len(self._words.encode(before)) - 1


def _places(by_row: list[list[int]]) -> Tensor:
    pairs = [(index, place) for index, places in enumerate(by_row) for place in places]
    return torch.tensor(pairs, dtype=torch.int64).view(-1, 2)


class _Row:
    def __init__(self) -> None:
        self.ids: list[int] = []
        self.positions: list[tuple[int, int, int]] = []
        self.groups: list[int] = []
        self.answers: list[tuple[int, int]] = []
        self.meant: list[tuple[int, tuple[float, float, float], tuple[int, int]]] = []
        self.read: list[tuple[int, int, int]] = []
        self.counted: list[tuple[int, int, int]] = []
        self.compared: list[tuple[int, int, int, tuple[float, ...]]] = []
        self.next_position = 0

    def text(self, ids: list[int], group: int) -> None:
        for token in ids:
            self.ids.append(token)
            self.positions.append((self.next_position,) * 3)
            self.groups.append(group)
            self.next_position += 1

    def picture(self, token: int, rows: int, columns: int) -> None:
        start = self.next_position
        for row in range(rows):
            for column in range(columns):
                self.ids.append(token)
                self.positions.append((start, start + row, start + column))
                self.groups.append(0)
        self.next_position = start + max(rows, columns)
