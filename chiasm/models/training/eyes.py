"""The losses that ask the network, on its way to an answer, what it has seen and what it has understood."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from chiasm.models.training.rows import ALL_ASPECTS, Rows
from chiasm.models.training.scenes import COLOURS, MAX_CHARACTERS, MOST_SHAPES
from chiasm.models.training.sight import CHARACTERS, IGNORE, KINDS, Sight

PATCHES_TELL_AFTER = (2, 4)
"""Blocks of the tower, counted from 0, after which the patches are asked."""

TEXT_TOLD_AFTER = 1
"""Layer of the language model, counted from 0, after which it is asked what the words alone tell: how many characters
of a text have been read, and in what two things are compared."""

WORDS_TELL_AFTER = 2
"""Layer after which words are asked what they mean, how many of that there are, and which letter is read."""

ANSWERS_TOLD_AFTER = 3
"""Layer after which an answer is asked how two things differ that it compares, what it counts, and what it reads."""


class Eyes(nn.Module):
    """What the embedding of a cell must tell by a single matrix; thrown away after training."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.parts = {
            "kind": 1 + len(KINDS),
            "colour": 1 + len(COLOURS),
            "background": len(COLOURS),
            "middle": len(KINDS) + len(COLOURS),
            "where": 3,
            "ninth": 9,
            "letters": MAX_CHARACTERS * (1 + len(CHARACTERS)),
        }
        self.all = nn.Linear(width, sum(self.parts.values()))
        self.patches = nn.ModuleList([nn.Linear(width, 2 + len(KINDS) + len(CHARACTERS)) for _ in PATCHES_TELL_AFTER])
        self.meant = nn.Linear(width, len(KINDS) + len(COLOURS) + 3)
        self.turn = nn.Linear(width, 1 + MAX_CHARACTERS)
        self.letter = nn.ModuleList([nn.Linear(width, 1 + len(CHARACTERS)) for _ in range(2)])
        self.amount = nn.Linear(width, 1)
        self.count = nn.Linear(width, 1 + MOST_SHAPES)
        self.aspect = nn.ModuleList([nn.Linear(width, len(ALL_ASPECTS)) for _ in range(2)])
        self.difference = nn.Linear(width, 4)
        for layer in self.modules():
            if isinstance(layer, nn.Linear):
                nn.init.normal_(layer.weight, std=0.02)

    def losses(self, embeddings: Tensor, patches: list[Tensor], sight: Sight) -> dict[str, Tensor]:
        """One loss for each part, from embeddings [B, N, width], and one for the patches after some of the blocks."""
        told = dict(zip(self.parts, self.all(embeddings).split(list(self.parts.values()), -1), strict=True))

        def choice(name: str) -> Tensor:
            return F.cross_entropy(told[name].flatten(0, 1), getattr(sight, name).flatten(), ignore_index=IGNORE)

        covered = (sight.kind > 0)[..., None]
        letters = told["letters"].unflatten(-1, (MAX_CHARACTERS, -1))
        written = (sight.kind == 1 + KINDS.index("text"))[..., None].expand(sight.letters.shape)
        spelling = F.cross_entropy(letters.flatten(0, 2), sight.letters.flatten(), reduction="none")
        weight = torch.where(written.flatten(), 1.0, 0.05)
        # A middle between two cells is easily shared out wrongly; counts need each thing to be whole in the end.
        numbers, found = sight.middle.sum(1), told["middle"].sigmoid().sum(1)
        distance = F.smooth_l1_loss(told["where"], sight.where, reduction="none", beta=0.2)
        return {
            "patches": torch.stack(
                [
                    self._patch_loss(layer(F.rms_norm(patches[block], patches[block].shape[-1:])), sight)
                    for layer, block in zip(self.patches, PATCHES_TELL_AFTER, strict=True)
                ]
            ).mean(),
            "kind": choice("kind"),
            "colour": choice("colour"),
            "background": 0.3 * choice("background"),
            "middle": 6 * F.binary_cross_entropy_with_logits(told["middle"], sight.middle),
            "numbers": 2 * F.smooth_l1_loss(found, numbers, reduction="none", beta=0.5).sum(-1).mean(),
            "where": 2 * (distance * covered).sum() / (3 * covered.sum().clamp(min=1)),
            "ninth": 0.3 * choice("ninth") if bool((sight.ninth != IGNORE).any()) else told["ninth"].sum() * 0,
            "letters": 2 * (spelling * weight).sum() / weight.sum().clamp(min=1),
        }

    def understanding(self, hidden: list[Tensor], rows: Rows) -> Tensor:
        """Loss of what the words for a thing have found of it in the picture: its kind, its colour, where it is.

        Also of the letter that comes next where a text is read, of how many there are of what is counted, and of how
        two things differ that are compared.
        """

        def told(layer: nn.Module, after: int, places: Tensor) -> Tensor:
            words = hidden[after][places[:, 0], places[:, 1]]
            found: Tensor = layer(F.rms_norm(words, words.shape[-1:]))
            return found

        losses = [hidden[0].sum() * 0]
        if len(rows.meant):
            parts = told(self.meant, WORDS_TELL_AFTER, rows.meant).split([len(KINDS), len(COLOURS), 3], -1)
            losses.append(F.cross_entropy(parts[0], rows.names[:, 0]))
            losses.append(F.cross_entropy(parts[1], rows.names[:, 1]))
            losses.append(4 * F.smooth_l1_loss(parts[2], rows.traits, beta=0.2))
        if len(rows.read):
            losses.append(F.cross_entropy(told(self.turn, TEXT_TOLD_AFTER, rows.read), rows.turns))
            for layer, after in zip(self.letter, (WORDS_TELL_AFTER, ANSWERS_TOLD_AFTER), strict=True):
                losses.append(F.cross_entropy(told(layer, after, rows.read), rows.letters))
        if len(rows.counted):
            amount = told(self.amount, WORDS_TELL_AFTER, rows.counted)[:, 0]
            losses.append(5 * F.smooth_l1_loss(amount, rows.numbers / MOST_SHAPES, beta=0.2))
            losses.append(F.cross_entropy(told(self.count, ANSWERS_TOLD_AFTER, rows.counting), rows.numbers))
        if len(rows.compared):
            # First near the word that says it: the answer stands too far away to find it at once.
            for layer, after, places in (
                (self.aspect[0], TEXT_TOLD_AFTER, rows.named),
                (self.aspect[1], WORDS_TELL_AFTER, rows.compared),
            ):
                losses.append(F.cross_entropy(told(layer, after, places), rows.aspects))
            differences = told(self.difference, ANSWERS_TOLD_AFTER, rows.compared)
            losses.append(6 * F.smooth_l1_loss(differences, rows.differences, beta=0.2))
        return torch.stack(losses).sum()

    def _patch_loss(self, told: Tensor, sight: Sight) -> Tensor:
        kinds, letters = told.flatten(0, 1).split([1 + len(KINDS), 1 + len(CHARACTERS)], -1)
        reading = F.cross_entropy(letters, sight.patch_letter.flatten(), reduction="none")
        weight = torch.where(sight.patch_letter.flatten() > 0, 1.0, 0.1)
        return F.cross_entropy(kinds, sight.patch_kind.flatten()) + 2 * (reading * weight).sum() / weight.sum()
