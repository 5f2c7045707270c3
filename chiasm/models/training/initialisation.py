"""Where training begins: a patch embedding that is chosen, small projections, heads that look at their neighbours."""

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from chiasm.models.training.shape import PATCH, VISION_THETA, Shape

if TYPE_CHECKING:
    from chiasm.models.training.network import Pupil, TextAttention


def initialise(pupil: "Pupil", shape: Shape) -> None:
    """Small projections into the residual stream, and heads that look at their neighbours from the start."""
    for name, parameter in pupil.named_parameters():
        if parameter.ndim == 2:
            gain = 0.3 if name.endswith(("attn.proj.weight", "down_proj.weight", "o_proj.weight")) else 1.0
            nn.init.normal_(parameter, std=gain / math.sqrt(parameter.shape[1]))
        elif name.endswith("bias"):
            nn.init.zeros_(parameter)
    nn.init.normal_(pupil.language_model.embed_tokens.weight, std=0.5)
    nn.init.normal_(pupil.language_model.lm_head.weight, std=0.02)
    for index, block in enumerate(pupil.visual.blocks):
        with torch.no_grad():  # what a patch contains must not drown where it is
            block.attn.qkv.weight[: 2 * shape.vision_width] *= 0.25
        _point_vision_heads(block.attn.qkv.bias, VISION_HEADS[min(index, len(VISION_HEADS) - 1)], shape)
    for layer in list(pupil.language_model.layers)[:2]:
        _point_text_heads(layer.self_attn, shape)


# What each head looks at first, by layer: an offset in patches (row, column), a direction, or nothing in particular.
_CROSS: tuple[object, ...] = ((0, 1), (0, -1), (1, 0), (-1, 0))
_CORNERS: tuple[object, ...] = ((1, 1), (1, -1), (-1, 1), (-1, -1))
_FAR: tuple[object, ...] = ((0, 2), (0, -2), (2, 0), (-2, 0))
_SIDES: tuple[object, ...] = ("up", "down", "left", "right")
VISION_HEADS = (
    (*_CROSS, (0, 0), None),
    (*_CORNERS, (0, 0), None),
    (*_FAR, None, None),
    (*_SIDES, None, None),
    (*_SIDES, None, None),
)
SHARPNESS = 24.0  # product of the lengths of q's and k's bias


def _point_vision_heads(bias: Tensor, heads: tuple[object, ...], shape: Shape) -> None:
    """Rotary positions make q·k a sum of cosines of the offset: biases choose where that sum peaks."""
    size = math.sqrt(SHARPNESS)
    pairs = shape.head // 2
    per_axis = pairs // 2
    frequency = VISION_THETA ** -(torch.arange(0, pairs, 2) / pairs)
    q, k = (bias[part * shape.vision_width : (part + 1) * shape.vision_width] for part in (0, 1))
    with torch.no_grad():
        for head, target in enumerate(heads):
            start = head * shape.head
            if isinstance(target, tuple):
                for axis, offset in enumerate(target):
                    for j in range(3):
                        _set(q, k, start, axis * per_axis + j, pairs, size, float(frequency[j]) * offset)
            elif isinstance(target, str):
                axis = 0 if target in ("up", "down") else 1
                turn = -math.pi / 2 if target in ("up", "left") else math.pi / 2
                for j in (2, 3):
                    _set(q, k, start, axis * per_axis + j, pairs, size, turn)


def _point_text_heads(attention: "TextAttention", shape: Shape) -> None:
    """Two heads for the words before, one for upwards, one for leftwards; the rest is free."""
    pairs = shape.head // 2
    size = math.sqrt(10.0)
    frequency = shape.rope_theta ** -(torch.arange(0, shape.head, 2) / shape.head)
    q, k = attention.q_proj.bias, attention.k_proj.bias
    time, row, _ = shape.mrope_section
    looks: tuple[Callable[[int], float | None], ...] = (
        lambda j: -float(frequency[j]),
        lambda j: -2 * float(frequency[j]),
        lambda j: -math.pi / 2 if time <= j < time + row else None,
        lambda j: -math.pi / 2 if j >= time + row else None,
    )
    with torch.no_grad():
        pointed = len(looks) * shape.head
        attention.q_proj.weight[:pointed] *= 0.25
        attention.k_proj.weight[: pointed * shape.kv_heads // shape.heads] *= 0.25
        for head, look in enumerate(looks):
            for j in range(pairs):
                turn = look(j)
                if turn is not None:
                    kv_start = head // (shape.heads // shape.kv_heads) * shape.head
                    _set(q, k, head * shape.head, j, pairs, size, turn, kv_start)


def _set(
    q: Tensor, k: Tensor, start: int, pair: int, pairs: int, size: float, turn: float, k_start: int | None = None
) -> None:
    q[start + pair] = size * math.cos(turn)
    q[start + pair + pairs] = size * math.sin(turn)
    k[(start if k_start is None else k_start) + pair] = size


def cosine_filters(width: int) -> Tensor:
    """The lowest spatial frequencies of a patch as a bank of filters [width, 3 * 14 * 14]: most for lightness, some
    for two opponent colours. Higher frequencies weigh more, as pictures have less of them.

    A learned patch embedding stalls a tower this small: the bank sees edges and colours from the first step.
    """
    lightness = round(width * 0.58)
    chroma = (width - lightness) // 2
    axes = torch.tensor([[1.0, 1.0, 1.0], [1.0, -1.0, 0.0], [0.5, 0.5, -1.0]])
    axes = axes / axes.norm(dim=1, keepdim=True)
    order = sorted(((i, j) for i in range(PATCH) for j in range(PATCH)), key=lambda ij: (ij[0] ** 2 + ij[1] ** 2, ij))
    places = (torch.arange(PATCH) + 0.5) * math.pi / PATCH
    rows: list[Tensor] = []
    for axis, number in zip(axes, (lightness, chroma, width - lightness - chroma), strict=True):
        for i, j in order[:number]:
            wave = torch.cos(i * places)[:, None] * torch.cos(j * places)[None, :]
            wave = wave / wave.norm() * (0.1 if i == j == 0 else 0.1 * (1 + math.hypot(i, j)))
            rows.append((axis[:, None, None] * wave).flatten())
    return torch.stack(rows)
