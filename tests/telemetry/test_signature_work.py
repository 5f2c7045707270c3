"""FLOPs and bytes by formula, against torch's own count over transformers' models, and against their real weights."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from bench.phase_sizes import config_of
from chiasm.models import tiny
from chiasm.models.tiny import Family
from chiasm.telemetry.signature.shapes import Language, Tower, language_of, tower_of
from chiasm.telemetry.signature.work import (
    Grid,
    decode_work,
    encode_work,
    image_tokens,
    prefill_work,
)

pytestmark = pytest.mark.slow

QWENS = [Family.QWEN2_VL, Family.QWEN2_5_VL, Family.QWEN3_VL]
FAMILIES = [*QWENS, Family.LLAVA_1_5]
VALUE_BYTES = 4
GRIDS: list[Grid] = [(1, 16, 16), (1, 12, 30), (1, 4, 4)]  # whole windows; windows cut at both edges; less than one
ROTATIONS = 2e-3
"""torch counts the products that make rotary angles of positions too, where transformers makes them so: no more."""


@pytest.fixture(params=FAMILIES, scope="module")
def family(request: pytest.FixtureRequest) -> Family:
    value: Family = request.param
    return value


@pytest.fixture(scope="module")
def model(family: Family) -> Any:
    """A tiny model of the family whose products can all be counted: attention as two of them."""
    config = tiny._config(family)
    if family is Family.LLAVA_1_5:
        config.vision_feature_layer = -1  # transformers runs all layers, whichever is used
    from transformers import AutoModelForImageTextToText

    return AutoModelForImageTextToText.from_config(config, attn_implementation="eager").eval()


@pytest.fixture(scope="module")
def tower(model: Any) -> Tower:
    return tower_of(model.config.to_dict())


@pytest.fixture(scope="module")
def language(model: Any) -> Language:
    return language_of(model.config.to_dict())


def counted_flops(call: Callable[[], Any]) -> int:
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        call()
    return counter.get_total_flops()


def encode(model: Any, family: Family, grids: list[Grid]) -> int:
    if family is Family.LLAVA_1_5:
        side = grids[0][1] * model.config.vision_config.patch_size
        pixels = torch.zeros(len(grids), 3, side, side)
        layer = model.config.vision_feature_layer
        return counted_flops(
            lambda: model.model.get_image_features(
                pixels, vision_feature_layer=layer, vision_feature_select_strategy="default"
            )
        )
    vision = model.config.vision_config
    values = 3 * vision.temporal_patch_size * vision.patch_size**2
    pixels = torch.zeros(sum(t * h * w for t, h, w in grids), values)
    return counted_flops(lambda: model.model.visual(pixels, grid_thw=torch.tensor(grids)))


def test_an_encode_has_as_many_flops_as_torch_counts(model: Any, family: Family, tower: Tower) -> None:
    grids = [(1, 4, 4)] * 2 if family is Family.LLAVA_1_5 else GRIDS
    assert encode_work(tower, grids, VALUE_BYTES).flops == pytest.approx(encode(model, family, grids), rel=ROTATIONS)


def test_a_prefill_has_as_many_flops_as_torch_counts(model: Any, language: Language) -> None:
    """But for attention to what comes later, which torch counts, and no good kernel computes."""
    length, width = 48, language.width

    def run() -> None:
        out = model.model.language_model(inputs_embeds=torch.zeros(1, length, width), use_cache=False)
        model.lm_head(out.last_hidden_state[:, -1])

    work = prefill_work(language, [length], VALUE_BYTES)
    acausal = work.attention_flops * 2 * length / (length + 1)
    assert work.linear_flops + acausal == pytest.approx(counted_flops(run), rel=ROTATIONS)


def test_a_decode_step_has_as_many_flops_as_torch_counts(model: Any, language: Language) -> None:
    from transformers import DynamicCache

    streams, past, width = 3, 20, language.width
    cache = DynamicCache()
    step = model.model.language_model
    with torch.no_grad():
        step(inputs_embeds=torch.zeros(streams, past, width), past_key_values=cache, use_cache=True)

    def run() -> None:
        out = step(inputs_embeds=torch.zeros(streams, 1, width), past_key_values=cache, use_cache=True)
        model.lm_head(out.last_hidden_state[:, -1])

    assert decode_work(language, [past + 1] * streams, VALUE_BYTES).flops == pytest.approx(
        counted_flops(run), rel=ROTATIONS
    )


def matrices_of(model: Any, chosen: Callable[[str], bool]) -> int:
    """Parameters of more than one dimension whose name is chosen."""
    return sum(values.numel() for name, values in model.named_parameters() if values.ndim > 1 and chosen(name))


def test_weights_are_those_of_the_model(model: Any, tower: Tower, language: Language) -> None:
    tables = ("embed_tokens", "position_embedding", "pos_embed")
    seeing = ("visual", "vision", "multi_modal_projector")
    assert tower.parameters == matrices_of(
        model, lambda name: any(part in name for part in seeing) and not any(table in name for table in tables)
    )
    assert language.parameters == matrices_of(model, lambda name: not any(part in name for part in (*seeing, *tables)))


@pytest.mark.parametrize("name", ["qwen2.5-vl-3b", "qwen2.5-vl-7b", "qwen2.5-vl-300m"])
def test_what_is_left_out_of_the_weights_is_little(name: str) -> None:
    from transformers import AutoModelForImageTextToText

    with torch.device("meta"):
        model = AutoModelForImageTextToText.from_config(config_of(name))
    config = model.config.to_dict()
    tower = sum(values.numel() for name, values in model.named_parameters() if "visual" in name)
    assert tower_of(config).parameters == pytest.approx(tower, rel=0.003)
    table = model.model.language_model.embed_tokens.weight.numel()
    tied = model.config.tie_word_embeddings  # then the table is the last matrix, which every step reads
    rest = model.num_parameters() - tower - (0 if tied else table)
    assert language_of(config).parameters == pytest.approx(rest, rel=0.001)


def test_the_cache_is_as_large_as_that_of_transformers(model: Any, language: Language) -> None:
    from transformers import DynamicCache

    cache = DynamicCache()
    with torch.no_grad():
        model.model.language_model(
            inputs_embeds=torch.zeros(2, 7, language.width), past_key_values=cache, use_cache=True
        )
    real = sum(layer.keys.nbytes + layer.values.nbytes for layer in cache.layers)
    assert prefill_work(language, [7, 7], VALUE_BYTES).kv_bytes == real
    assert decode_work(language, [7, 7], VALUE_BYTES).kv_bytes == real  # six read and one written


def test_pixels_come_in_and_embeddings_go_out(tower: Tower, family: Family, model: Any) -> None:
    work = encode_work(tower, [(1, 4, 4)], VALUE_BYTES)
    tokens = image_tokens(tower, [(1, 4, 4)])
    levels = 3 if family is Family.QWEN3_VL else 1  # the tiny one stacks two beside its last
    pixels = 16 * tower.patch.inputs
    assert work.other_bytes == (pixels + tokens * levels * model.config.text_config.hidden_size) * VALUE_BYTES


def test_a_longer_context_costs_bytes_more_than_flops() -> None:
    language = language_of(config_of("qwen2.5-vl-3b").to_dict())
    short, long = (decode_work(language, [context], 2) for context in (100, 10_000))
    assert long.nbytes / short.nbytes > 1.05
    assert decode_work(language, [100] * 64, 2).intensity > 20 * short.intensity  # weights are read once for all


def test_what_is_not_known_is_refused() -> None:
    with pytest.raises(ValueError, match="gemma3"):
        language_of({"model_type": "gemma3", "text_config": {}})
    with pytest.raises(ValueError, match="llama models"):
        tower_of({"model_type": "llama"})
    with pytest.raises(ValueError, match="no vision tower"):
        tower_of({"model_type": "qwen2_5_vl", "text_config": {}})
