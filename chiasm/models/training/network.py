"""The mathematics of Qwen2.5-VL once more, over whole batches of equal pictures, for training alone.

The library's forward runs picture by picture and carries everything a server needs; this one is several times faster.
Parameters carry the names that the library's checkpoints use, so saving is a rename of prefixes, and a test holds the
two forwards against each other.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from chiasm.models.training.initialisation import cosine_filters, initialise
from chiasm.models.training.shape import CHANNELS, MERGE, PATCH, VISION_THETA, Shape


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
    """The vision half. The filters of its patch embedding are chosen, not learned: see `initialisation`."""

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
