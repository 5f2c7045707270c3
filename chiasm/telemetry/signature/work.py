"""FLOPs and bytes of one run of a phase, or of one step of an engine, from the shapes of the model alone. Pure.

What is counted is what any implementation has to do: multiplications and additions of the matrix products and of
attention (2 FLOPs each pair), and bytes that must come from memory or go there: weights once, KV cache, the phase's
input and output. Activations between the layers are left out, and so are softmax, norms and rotations: an
implementation may keep them on chip. So intensity is an upper bound, and a share of a peak a lower one.

Sources: a forward pass has 2 FLOPs for each weight and token, and attention comes on top (Kaplan et al., "Scaling Laws
for Neural Language Models", 2020, section 2.1 and table 1; Chowdhery et al., "PaLM", 2022, appendix B). A decode step
reads all weights once for the whole batch and each stream's own KV cache (Pope et al., "Efficiently Scaling Transformer
Inference", 2022, section 2). Grouped-query attention shrinks the cache, not the attention's FLOPs (Ainslie et al.,
"GQA", 2023). Windows, merging and causality are our own counting.
"""

import math
from collections.abc import Sequence
from dataclasses import astuple, dataclass
from operator import add

from chiasm.telemetry.signature.shapes import Language, Tower, parameters

Grid = tuple[int, int, int]
"""An image in patches: time, height, width. One picture has time 1."""


@dataclass(frozen=True)
class Work:
    """What one run has to do."""

    linear_flops: int
    attention_flops: int
    weight_bytes: int
    kv_bytes: int  # read and written
    other_bytes: int  # input and output

    @property
    def flops(self) -> int:
        """All of them."""
        return self.linear_flops + self.attention_flops

    @property
    def nbytes(self) -> int:
        """All of them."""
        return self.weight_bytes + self.kv_bytes + self.other_bytes

    @property
    def intensity(self) -> float:
        """FLOPs for each byte."""
        return self.flops / self.nbytes

    def __add__(self, other: "Work") -> "Work":
        """Of both, one after the other."""
        return Work(*map(add, astuple(self), astuple(other)))


NOTHING = Work(0, 0, 0, 0, 0)


def image_tokens(tower: Tower, grids: Sequence[Grid]) -> int:
    """Embeddings that come of these images."""
    return sum(t * h * w for t, h, w in grids) // tower.merge**2


def likely_grid(tower: Tower, tokens: int) -> Grid:
    """The patches of one picture of which so many embeddings come, if it is as near to a square as that number allows.

    Only windows tell it from another picture of as many tokens, by the ones at its edges that are cut.
    """
    rows = next(side for side in range(math.isqrt(tokens), 0, -1) if tokens % side == 0)
    return (1, rows * tower.merge, tokens // rows * tower.merge)


def encode_work(tower: Tower, grids: Sequence[Grid], value_bytes: int) -> Work:
    """Of encoding these images in one batch: pixels in, image tokens out.

    Every patch (and class token) meets the weights of every layer, every image token those of the merger. In attention,
    each patch meets each of its own frame; in a layer with windows, each of its own window:
    4 * width FLOPs a pair, for scores and values.
    """
    patches = sum(t * h * w for t, h, w in grids)
    tokens = image_tokens(tower, grids)
    rows = patches + tower.class_tokens * sum(t for t, _, _ in grids)
    linear = (
        patches * tower.patch.parameters
        + rows * tower.layers * parameters(tower.layer)
        + tokens * parameters(tower.merger)
    )
    whole = sum(t * (h * w + tower.class_tokens) ** 2 for t, h, w in grids)
    windowed = sum(_window_pairs(tower, grid) for grid in grids) if tower.full_layers < tower.layers else 0
    pairs = tower.full_layers * whole + (tower.layers - tower.full_layers) * windowed
    return Work(
        linear_flops=2 * linear,
        attention_flops=4 * pairs * tower.width,
        weight_bytes=tower.parameters * value_bytes,
        kv_bytes=0,
        other_bytes=(patches * tower.patch.inputs + tokens * tower.out_width) * value_bytes,
    )


def _window_pairs(tower: Tower, grid: Grid) -> int:
    """Pairs of patches that share a window; windows at the right and lower edge hold what is left of the image."""
    time, height, width = grid
    rows, columns = (_sum_of_squares(side // tower.merge, tower.window) for side in (height, width))
    return time * rows * columns * tower.merge**4


def _sum_of_squares(length: int, part: int) -> int:
    return length // part * part**2 + (length % part) ** 2


def prefill_work(language: Language, lengths: Sequence[int], value_bytes: int) -> Work:
    """Of computing these prompts, in tokens, none of them cached, with the first token of each answer.

    Attention is causal: token n meets n tokens, itself among them. The vocabulary is met by each prompt's last token
    only. Keys and values are written once; that they are read while still at hand is left out.
    """
    tokens = sum(lengths)
    pairs = sum(length * (length + 1) // 2 for length in lengths)
    return language_work(
        language,
        tokens=tokens,
        answers=len(lengths),
        pairs=pairs,
        kv_tokens=tokens,
        value_bytes=value_bytes,
        kv_value_bytes=value_bytes,
    )


def decode_work(language: Language, contexts: Sequence[int], value_bytes: int) -> Work:
    """Of one step that gives each stream a token. A stream's context is all that the token meets, itself included.

    Keys and values of the context are read, but for the new token's own, which are written.
    """
    return language_work(
        language,
        tokens=len(contexts),
        answers=len(contexts),
        pairs=sum(contexts),
        kv_tokens=sum(contexts),
        value_bytes=value_bytes,
        kv_value_bytes=value_bytes,
    )


def language_work(
    language: Language,
    *,
    tokens: int,
    answers: int,
    pairs: int,
    kv_tokens: int,
    value_bytes: int,
    kv_value_bytes: int,
) -> Work:
    """Of one pass through the language model, whatever is in it.

    `tokens` are computed, `answers` of which meet the vocabulary; in attention they make `pairs` with what they meet,
    themselves included; keys and values of `kv_tokens` are read or written. A value of weights and activations has
    `value_bytes`, one of the KV cache `kv_value_bytes`.
    """
    linear = tokens * language.layers * parameters(language.layer) + answers * language.head.parameters
    return Work(
        linear_flops=2 * linear,
        attention_flops=4 * pairs * language.layers * language.heads * language.head_size,
        weight_bytes=language.parameters * value_bytes,
        kv_bytes=kv_tokens * language.kv_values * kv_value_bytes,
        other_bytes=(tokens * language.width + answers * language.head.outputs) * value_bytes,
    )
