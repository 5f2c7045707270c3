"""The mathematics of Qwen2.5-VL once more, over whole batches of equal pictures, for training alone.

The library's forward runs picture by picture and carries everything a server needs; this one is several times faster.
Parameters carry the names that the library's checkpoints use, so saving is a rename of prefixes, and a test holds the
two forwards against each other.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

PATCH, MERGE = 14, 2
CELL = PATCH * MERGE  # pixels a side of one image token
CHANNELS = 3


@dataclass(frozen=True)
class Shape:
    """The sizes of the network."""

    vision_layers: int = 5
    vision_width: int = 192
    vision_mlp: int = 320
    text_layers: int = 5
    width: int = 192
    mlp: int = 384
    heads: int = 6  # in both halves
    kv_heads: int = 3
    vocabulary: int = 768
    # Conversations are short, so neighbours must be told apart; yet some frequencies must be so low that a word finds
    # what it means at any distance. With a base of 20 none was, and shapes were not found by their names.
    rope_theta: float = 1000.0
    mrope_section: tuple[int, int, int] = (4, 6, 6)

    @property
    def head(self) -> int:
        """Numbers in one attention head."""
        return self.width // self.heads


VISION_THETA = 10_000.0  # vLLM knows no other for this architecture


def rms_norm(x: Tensor, weight: Tensor) -> Tensor:
    """As the library has it, with the same epsilon."""
    return F.rms_norm(x, (x.shape[-1],), weight, 1e-6)


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotary positions: `x` [B, H, L, D], `cos` and `sin` broadcastable to it."""
    half = x.shape[-1] // 2
    return x * cos + torch.cat((-x[..., half:], x[..., :half]), dim=-1) * sin


class Norm(nn.Module):
    """Only the weight of an RMSNorm."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        """Normalise the last dimension."""
        return rms_norm(x, self.weight)


class Mlp(nn.Module):
    """SwiGLU."""

    def __init__(self, width: int, inner: int, bias: bool) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(width, inner, bias=bias)
        self.up_proj = nn.Linear(width, inner, bias=bias)
        self.down_proj = nn.Linear(inner, width, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        """`x` [..., width]."""
        return self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))


class VisionAttention(nn.Module):
    """Every patch of a picture attends to every other."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.heads = shape.heads
        self.qkv = nn.Linear(shape.vision_width, 3 * shape.vision_width)
        self.proj = nn.Linear(shape.vision_width, shape.vision_width)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        """`x` [B, patches, width]."""
        batch, length, width = x.shape
        q, k, v = self.qkv(x).view(batch, length, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        out = F.scaled_dot_product_attention(rotate(q, cos, sin), rotate(k, cos, sin), v)
        return self.proj(out.transpose(1, 2).reshape(batch, length, width))


class VisionBlock(nn.Module):
    """One layer of the tower."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.norm1, self.norm2 = Norm(shape.vision_width), Norm(shape.vision_width)
        self.attn = VisionAttention(shape)
        self.mlp = Mlp(shape.vision_width, shape.vision_mlp, bias=True)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        """`x` [B, patches, width]."""
        x = x + self.attn(self.norm1(x), cos, sin)
        return x + self.mlp(self.norm2(x))


class Merger(nn.Module):
    """Four neighbouring patches become one image token."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        inner = shape.vision_width * MERGE**2
        self.ln_q = Norm(shape.vision_width)
        self.mlp = nn.Sequential(nn.Linear(inner, inner), nn.GELU(), nn.Linear(inner, shape.width))

    def forward(self, x: Tensor) -> Tensor:
        """[B, patches, width] to [B, patches / 4, width of the language model]."""
        x = self.ln_q(x)
        return self.mlp(x.reshape(x.shape[0], -1, x.shape[-1] * MERGE**2))


class Tower(nn.Module):
    """The vision half. The filters of its patch embedding are chosen, not learned: see `cosine_filters`."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        self.register_buffer("filters", cosine_filters(shape.vision_width))
        self.blocks = nn.ModuleList([VisionBlock(shape) for _ in range(shape.vision_layers)])
        self.merger = Merger(shape)

    def forward(self, patches: Tensor, rows: int, columns: int) -> tuple[Tensor, list[Tensor]]:
        """Patches [B, rows * columns, 3 * 14 * 14] in the processor's order, to embeddings [B, cells, width].

        Also returns what the patches were after each block, [B, patches, vision width].
        """
        cos, sin = vision_angles(rows, columns, self.shape.head)
        x = patches @ self.filters.T
        seen = []
        for block in self.blocks:
            x = block(x, cos, sin)
            seen.append(x)
        return self.merger(x), seen


class TextAttention(nn.Module):
    """Grouped-query attention under a mask."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.heads, self.kv_heads = shape.heads, shape.kv_heads
        self.q_proj = nn.Linear(shape.width, shape.heads * shape.head)
        self.k_proj = nn.Linear(shape.width, shape.kv_heads * shape.head)
        self.v_proj = nn.Linear(shape.width, shape.kv_heads * shape.head)
        self.o_proj = nn.Linear(shape.heads * shape.head, shape.width, bias=False)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor, mask: Tensor) -> Tensor:
        """`x` [B, L, width], `mask` [B, 1, L, L], True where attention is allowed."""
        batch, length, _ = x.shape

        def split(y: Tensor, heads: int) -> Tensor:
            return y.view(batch, length, heads, -1).transpose(1, 2)

        q = rotate(split(self.q_proj(x), self.heads), cos, sin)
        k = rotate(split(self.k_proj(x), self.kv_heads), cos, sin)
        v = split(self.v_proj(x), self.kv_heads)
        groups = self.heads // self.kv_heads
        out = F.scaled_dot_product_attention(
            q, k.repeat_interleave(groups, 1), v.repeat_interleave(groups, 1), attn_mask=mask
        )
        return self.o_proj(out.transpose(1, 2).reshape(batch, length, -1))


class TextLayer(nn.Module):
    """One layer of the language model."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.input_layernorm, self.post_attention_layernorm = Norm(shape.width), Norm(shape.width)
        self.self_attn = TextAttention(shape)
        self.mlp = Mlp(shape.width, shape.mlp, bias=False)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor, mask: Tensor) -> Tensor:
        """`x` [B, L, width]."""
        x = x + self.self_attn(self.input_layernorm(x), cos, sin, mask)
        return x + self.mlp(self.post_attention_layernorm(x))


class LanguageModel(nn.Module):
    """The language half."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        self.embed_tokens = nn.Embedding(shape.vocabulary, shape.width)
        self.layers = nn.ModuleList([TextLayer(shape) for _ in range(shape.text_layers)])
        self.norm = Norm(shape.width)
        self.lm_head = nn.Linear(shape.width, shape.vocabulary, bias=False)

    def forward(self, x: Tensor, positions: Tensor, mask: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Embeddings [B, L, width] at M-RoPE positions [3, B, L] to hidden states [B, L, width] before `lm_head`.

        Also returns what the tokens were after each layer, [B, L, width].
        """
        cos, sin = text_angles(positions, self.shape)
        seen = []
        for layer in self.layers:
            x = layer(x, cos, sin, mask)
            seen.append(x)
        return self.norm(x), seen


class Pupil(nn.Module):
    """Both halves."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.visual = Tower(shape)
        self.language_model = LanguageModel(shape)
        initialise(self, shape)

    def checkpoint(self) -> dict[str, Tensor]:
        """The parameters under the names, and in the shapes, of the library's `Qwen2_5_VLForConditionalGeneration`."""
        found: dict[str, Tensor] = {}
        for name, tensor in self.state_dict().items():
            if name == "visual.filters":
                both = tensor.view(-1, CHANNELS, 1, PATCH, PATCH) / 2  # a still picture counts as two equal frames
                found["model.visual.patch_embed.proj.weight"] = both.repeat(1, 1, 2, 1, 1)
            elif name == "language_model.lm_head.weight":
                found["lm_head.weight"] = tensor
            else:
                found[f"model.{name}"] = tensor
        return {name: tensor.contiguous() for name, tensor in found.items()}


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


def vision_angles(rows: int, columns: int, head: int) -> tuple[Tensor, Tensor]:
    """cos and sin [patches, head] of the tower's rotary positions, patches in the processor's order (cell by cell)."""
    row, column = torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing="ij")

    def by_cell(x: Tensor) -> Tensor:
        return x.view(rows // MERGE, MERGE, columns // MERGE, MERGE).transpose(1, 2).flatten().float()

    frequency = VISION_THETA ** -(torch.arange(0, head // 2, 2) / (head // 2))
    angle = torch.cat((by_cell(row)[:, None] * frequency, by_cell(column)[:, None] * frequency), dim=-1).repeat(1, 2)
    return angle.cos(), angle.sin()


def text_angles(positions: Tensor, shape: Shape) -> tuple[Tensor, Tensor]:
    """cos and sin [B, 1, L, head] of M-RoPE positions [3, B, L]: time, row, column."""
    frequency = shape.rope_theta ** -(torch.arange(0, shape.head, 2) / shape.head)
    parts = [positions[axis, ..., None] * part for axis, part in enumerate(frequency.split(list(shape.mrope_section)))]
    angle = torch.cat(parts, dim=-1).repeat(1, 1, 2)[:, None]
    return angle.cos(), angle.sin()


def initialise(pupil: Pupil, shape: Shape) -> None:
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


def _point_text_heads(attention: TextAttention, shape: Shape) -> None:
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
