"""Towers of other costs: what their ratios are, and that they are the bench model otherwise."""

import itertools
import json
from pathlib import Path

import pytest
import torch

import bench.model
from bench.model import TEXT, VISION, build_bench_model, configuration, random_model
from bench.phase_sizes import CONFIGS
from bench.towers import VARIANTS, flop_ratio

pytestmark = pytest.mark.slow  # to import what it is about

BY_NAME = {variant.name: variant for variant in VARIANTS}


def test_the_ratio_runs_from_llavas_to_gemmas() -> None:
    ratios = [variant.ratio() for variant in VARIANTS]
    assert ratios == sorted(ratios)
    assert ratios[0] == pytest.approx(0.05, rel=0.05)
    assert ratios[-1] == pytest.approx(1.7, rel=0.05)
    assert BY_NAME["bench"].vision == VISION


def test_the_ratio_is_that_of_multiplications_counted_by_hand() -> None:
    # 1,024 patches of 1,176 values; 10 layers of 4 * 384^2 + 3 * 384 * 1024; four patches merged, twice
    encode = 2 * (1024 * (1176 * 384 + 10 * 1_769_472) + 256 * (1536 * 1536 + 1536 * 768))
    # two layers in which each patch meets all, eight with windows of 64
    encode += 4 * 384 * 1024 * (2 * 1024 + 8 * 64)
    # 9 layers of queries and output, keys and values, and the feed-forward's three matrices; the head for one token
    prefill = 2 * (256 * 9 * (2 * 768 * 768 + 2 * 768 * 128 + 3 * 768 * 4096) + 768 * 288)
    prefill += 4 * 9 * 768 * (256 * 257 // 2)
    assert BY_NAME["bench"].ratio() == pytest.approx(encode / prefill)


def test_longer_images_are_dearer_by_the_token_because_patches_meet_all_others() -> None:
    for variant in VARIANTS:
        assert variant.ratio(64) < variant.ratio(256) < variant.ratio(1024)


@pytest.mark.parametrize(("name", "public"), [("slim", "7b"), ("bench", "3b")])
def test_they_are_like_the_public_ones(name: str, public: str) -> None:
    from transformers import Qwen2_5_VLConfig

    [config] = (sizes for model, sizes in CONFIGS.items() if public in model.lower())
    assert BY_NAME[name].ratio() == pytest.approx(flop_ratio(Qwen2_5_VLConfig(**config).to_dict()), rel=0.15)


def test_the_first_is_like_llava() -> None:
    from transformers import LlavaConfig

    config = LlavaConfig().to_dict()  # the defaults are those of LLaVA-1.5-7B
    assert BY_NAME["narrow"].ratio() == pytest.approx(flop_ratio(config, 576), rel=0.15)


def test_only_the_tower_differs() -> None:
    with torch.device("meta"):
        models = [random_model(variant.vision) for variant in VARIANTS]
    shapes = [
        {name: tuple(p.shape) for name, p in model.named_parameters() if "visual" not in name} for model in models
    ]
    assert all(one == other for one, other in itertools.pairwise(shapes))
    heads = [variant.vision["hidden_size"] // variant.vision["num_heads"] for variant in VARIANTS]
    assert set(heads) == {64}


def test_each_has_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(bench.model, "TEXT", TEXT | {"num_hidden_layers": 1})
    one = VISION | {"depth": 1, "fullatt_block_indexes": [0]}
    monkeypatch.setattr(bench.model, "VISION", one)
    folder = build_bench_model(one | {"intermediate_size": 64})
    assert folder != build_bench_model() == build_bench_model(one)
    assert json.loads((folder / "config.json").read_text())["vision_config"]["intermediate_size"] == 64
    assert configuration(one).vision_config.intermediate_size == 1024
