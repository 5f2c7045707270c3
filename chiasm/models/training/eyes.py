"""The losses that ask the network, on its way to an answer, what it has seen and what it has understood."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from chiasm.models.training.rows import Rows
from chiasm.models.training.scenes import COLOURS, MAX_CHARACTERS
from chiasm.models.training.sight import CHARACTERS, IGNORE, KINDS, Sight

PATCHES_TELL_AFTER = (2, 4)
"""Blocks of the tower, counted from 0, after which the patches are asked."""

WORDS_TELL_AFTER = 2
"""Layer of the language model, counted from 0, after which words are asked what they mean, and which letter is read."""

ANSWERS_COMPARE_AFTER = 3
"""Layer after which an answer is asked how the two things differ that it is to compare."""


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
        self.letter = nn.Linear(width, 1 + len(CHARACTERS))
        self.difference = nn.Linear(width, 3)
        for layer in (self.all, *self.patches, self.meant, self.letter, self.difference):
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
            "where": 2 * (distance * covered).sum() / (3 * covered.sum().clamp(min=1)),
            "ninth": 0.3 * choice("ninth") if bool((sight.ninth != IGNORE).any()) else told["ninth"].sum() * 0,
            "letters": 2 * (spelling * weight).sum() / weight.sum().clamp(min=1),
        }

    def understanding(self, hidden: list[Tensor], rows: Rows) -> Tensor:
        """Loss of what the words for a thing have found of it in the picture: its kind, its colour, where it is.

        Also of the letter that comes next where a text is read, and of how two things differ that are compared.
        """

        def told(layer: nn.Linear, after: int, places: Tensor) -> Tensor:
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
            losses.append(F.cross_entropy(told(self.letter, WORDS_TELL_AFTER, rows.read), rows.letters))
        if len(rows.compared):
            differences = told(self.difference, ANSWERS_COMPARE_AFTER, rows.compared)
            losses.append(4 * F.smooth_l1_loss(differences, rows.differences, beta=0.2))
        return torch.stack(losses).sum()

    def _patch_loss(self, told: Tensor, sight: Sight) -> Tensor:
        kinds, letters = told.flatten(0, 1).split([1 + len(KINDS), 1 + len(CHARACTERS)], -1)
        reading = F.cross_entropy(letters, sight.patch_letter.flatten(), reduction="none")
        weight = torch.where(sight.patch_letter.flatten() > 0, 1.0, 0.1)
        return F.cross_entropy(kinds, sight.patch_kind.flatten()) + 2 * (reading * weight).sum() / weight.sum()
