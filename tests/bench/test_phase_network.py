"""What is timed is what the model does: the same embeddings and logits as transformers' own way through it."""

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch.nn.attention import varlen
from transformers import AutoModelForImageTextToText, DynamicCache

from bench.phase_network import KeptKeys, Layout, language_step, random_model, use_flash_attention
from bench.phase_sizes import SEED
from chiasm.models.tiny import Family, _config, draw_weights

pytestmark = pytest.mark.slow  # to import what it is about

GRIDS = [(1, 16, 16), (1, 12, 30)]
TOKENS = 12


@pytest.fixture
def model() -> Iterator[Any]:
    with torch.no_grad():
        yield random_model(_config(Family.QWEN2_5_VL), "cpu", torch.float32)


@pytest.fixture(scope="module")
def plain() -> Any:
    """The same weights, and nothing of ours."""
    torch.manual_seed(SEED)
    model = AutoModelForImageTextToText.from_config(_config(Family.QWEN2_5_VL))
    draw_weights(model)
    return model.eval()


@pytest.fixture(scope="module")
def pixels() -> torch.Tensor:
    return torch.randn(sum(t * h * w for t, h, w in GRIDS), 3 * 2 * 14 * 14, generator=torch.Generator().manual_seed(1))


def test_an_encode_is_the_towers(model: Any, plain: Any, pixels: torch.Tensor) -> None:
    expected = plain.model.visual(pixels, grid_thw=torch.tensor(GRIDS)).pooler_output
    torch.testing.assert_close(Layout(model.model.visual, GRIDS).encode(pixels), expected, rtol=1e-4, atol=1e-4)


def test_all_windows_in_one_kernel_are_all_windows(
    model: Any, plain: Any, pixels: torch.Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """torch's kernel is for GPUs only; this one keeps to its contract."""
    longest = []

    def attention(
        query: torch.Tensor, key: torch.Tensor, value: torch.Tensor,
        ends: torch.Tensor, _: torch.Tensor, max_query: int, max_key: int,
    ) -> torch.Tensor:  # fmt: skip
        assert max_query == max_key == int(ends.diff().max())
        longest.append(max_query)
        parts = []
        for start, end in zip(ends.tolist(), ends.tolist()[1:], strict=False):
            part = (tensor[start:end].transpose(0, 1) for tensor in (query, key, value))
            parts.append(torch.nn.functional.scaled_dot_product_attention(*part).transpose(0, 1))
        return torch.cat(parts)

    monkeypatch.setattr(varlen, "varlen_attn", attention)
    use_flash_attention(model.model.visual)
    encoded = Layout(model.model.visual, GRIDS).encode(pixels)
    expected = plain.model.visual(pixels, grid_thw=torch.tensor(GRIDS)).pooler_output
    torch.testing.assert_close(encoded, expected, rtol=1e-4, atol=1e-4)
    assert longest == [8, 64, 360]  # a try; a layer with windows of 8 x 8 patches; one without


def test_a_prefill_and_a_step_are_the_language_models(model: Any, plain: Any) -> None:
    embeddings = torch.randn(2, TOKENS, 128, generator=torch.Generator().manual_seed(2))
    kept = KeptKeys(model.config.text_config, 2, TOKENS + 1, "cpu", torch.float32)
    first = language_step(model, embeddings, kept)
    cache = DynamicCache()
    out = plain.model.language_model(inputs_embeds=embeddings, past_key_values=cache, use_cache=True)
    torch.testing.assert_close(first, plain.lm_head(out.last_hidden_state[:, -1]), rtol=1e-4, atol=1e-4)

    kept = move_on(kept)
    token = torch.randn(2, 1, 128, generator=torch.Generator().manual_seed(3))
    second = language_step(model, token, kept)
    out = plain.model.language_model(inputs_embeds=token, past_key_values=cache, use_cache=True)
    expected = plain.lm_head(out.last_hidden_state[:, -1])
    torch.testing.assert_close(second, expected, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(language_step(model, token, kept), second)  # and may be run again


def move_on(kept: KeptKeys) -> KeptKeys:
    """The same keys and values, all of the prompt there."""
    kept.position = TOKENS
    for layer in kept.layers:
        layer._position = TOKENS
    return kept
