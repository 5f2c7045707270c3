"""A Qwen2.5-VL model with random weights, and how `bench.phases` runs its phases. Needs only torch and transformers.

The language model is run on its own key-value store, and the tower's attention by torch's flash kernel on a GPU, so
that a step is a fixed list of kernels: then it can be a CUDA graph, and no launch hides what the phase is bound by.
"""

from typing import Any

import torch
import torch.nn.functional as F

from bench.phase_sizes import SEED
from chiasm.models.tiny import draw_weights


def random_model(config: Any, device: str, dtype: torch.dtype) -> Any:
    """The model with this configuration, its weights drawn on the device."""
    from transformers import AutoModelForImageTextToText

    torch.manual_seed(SEED)
    with torch.device(device):
        model = AutoModelForImageTextToText.from_config(config, dtype=dtype)
        draw_weights(model)
    tower = model.model.visual
    tower.patch_embed.proj = PatchProjection(tower.patch_embed.proj.weight)
    return model.eval()


class PatchProjection(torch.nn.Module):
    """What cuts an image into patches, as the matrix product that it is, which vLLM makes of it too.

    cuDNN has no good kernel for a convolution whose stride is its width.
    """

    def __init__(self, weight: torch.nn.Parameter) -> None:
        super().__init__()
        self.weight = weight

    def forward(self, patches: torch.Tensor) -> torch.Tensor:
        """[patches, channels, time, height, width] -> [patches, width of the tower]."""
        return F.linear(patches.flatten(1), self.weight.flatten(1))


def use_flash_attention(tower: Any) -> None:
    """Let the tower attend to all windows of a layer in one kernel, instead of one after the other.

    Raises what torch raises, and leaves the tower as it was, where this torch or this card cannot.
    """
    from torch.nn.attention.varlen import varlen_attn
    from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

    def attend(
        module: Any,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        attention_mask: None = None,
        *,
        cu_seq_lens_q: torch.Tensor,
        max_length_q: int,
        **others: Any,
    ) -> tuple[torch.Tensor, None]:
        """[1, heads, patches, head size] -> [1, patches, heads, head size], each patch within its own segment."""
        packed = [tensor[0].transpose(0, 1) for tensor in (query, key, value)]
        out = varlen_attn(*packed, cu_seq_lens_q, cu_seq_lens_q, max_length_q, max_length_q)
        return out.unsqueeze(0), None

    head_size = tower.config.hidden_size // tower.config.num_heads
    probe = torch.zeros(1, tower.config.num_heads, 8, head_size, device=tower.device, dtype=tower.dtype)
    ends = torch.tensor([0, 8], dtype=torch.int32, device=tower.device)
    attend(None, probe, probe, probe, cu_seq_lens_q=ends, max_length_q=8)
    ALL_ATTENTION_FUNCTIONS.register("chiasm_flash", attend)  # transformers packs windows for what is called flash
    tower.config._attn_implementation = "chiasm_flash"


class Layout:
    """Where the patches of a batch of images lie, computed before the tower runs, so that it waits for nothing."""

    def __init__(self, tower: Any, grids: list[tuple[int, int, int]]) -> None:
        from transformers import vision_utils

        config, device = tower.config, tower.device
        grid = torch.tensor(grids)
        ends = vision_utils.get_vision_cu_seqlens(grid)
        window_index, window_ends = vision_utils.get_vision_window_index(
            grid,
            spatial_merge_size=config.spatial_merge_size,
            window_size=config.window_size,
            patch_size=config.patch_size,
        )
        self._tower = tower
        self._grid = grid.to(device)
        self._where = {
            "position_ids": vision_utils.get_vision_position_ids(grid, config.spatial_merge_size).to(device),
            "cu_seqlens": ends.to(device),
            "max_seqlen": int(ends.diff().max()),
            "window_index": window_index.to(device),
            "cu_window_seqlens": window_ends.to(device),
            "max_window_seqlen": int(window_ends.diff().max()),
        }

    def encode(self, pixels: torch.Tensor) -> torch.Tensor:
        """[patches, values of a patch] -> [image tokens, width of the language model]."""
        out: torch.Tensor = self._tower(pixels, grid_thw=self._grid, **self._where).pooler_output
        return out


class LayerKeys:
    """A layer's keys and values, of fixed size: what a step computes goes to `position` and after; it sees all so far.

    Stands in for a cache of transformers. Running a step again overwrites what it wrote.
    """

    def __init__(self, keys: torch.Tensor, values: torch.Tensor, position: int) -> None:
        self._keys = keys
        self._values = values
        self._position = position

    def update(
        self, keys: torch.Tensor, values: torch.Tensor, *others: Any, **more: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Keep what the layer computed ([streams, heads, tokens, head size]); returns all up to there."""
        end = self._position + keys.shape[2]
        self._keys[:, :, self._position : end] = keys
        self._values[:, :, self._position : end] = values
        return self._keys[:, :, :end], self._values[:, :, :end]


class KeptKeys:
    """A key-value cache with room for so many tokens, `position` of which are there, for all streams alike."""

    def __init__(
        self, config: Any, streams: int, tokens: int, device: str, dtype: torch.dtype, position: int = 0
    ) -> None:
        heads = config.num_key_value_heads
        head_size = config.hidden_size // config.num_attention_heads
        shape = (2, streams, heads, tokens, head_size)
        self.position = position
        self.layers = []
        for _ in range(config.num_hidden_layers):
            keys, values = torch.randn(shape, device=device, dtype=dtype)
            self.layers.append(LayerKeys(keys, values, position))


def language_step(model: Any, embeddings: torch.Tensor, kept: KeptKeys) -> torch.Tensor:
    """[streams, tokens, width] -> logits of each stream's last token; attention is causal, or a single token's.

    Layer by layer, and each with a cache of its own, so that a layer compiled is the same code as the next.
    """
    streams, tokens, _ = embeddings.shape
    language = model.model.language_model
    positions = torch.arange(kept.position, kept.position + tokens, device=embeddings.device)
    rotation = language.rotary_emb(embeddings, positions.expand(3, streams, tokens))
    hidden = embeddings
    for layer, keys in zip(language.layers, kept.layers, strict=True):
        # No mask is needed, and without one the flash kernel is used.
        hidden = layer(hidden, attention_mask=None, position_embeddings=rotation, past_key_values=keys)
    logits: torch.Tensor = model.lm_head(language.norm(hidden)[:, -1])
    return logits
