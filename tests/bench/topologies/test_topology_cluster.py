"""What a cluster's decoder was measured as before: asked where decoders keep what they have measured."""

from dataclasses import replace

import pytest

from bench.topologies import chiasm_cluster
from bench.topologies.arrangement import Arrangement
from bench.topologies.chiasm_cluster import cluster_config, known_chunk, serve_command
from bench.topologies.setting import Setting
from chiasm.calibration import Step
from chiasm.calibration_cache import cache_folder, save
from chiasm.config import ClusterConfig
from chiasm.config_file import load_config
from chiasm.preflight import ModelFacts
from decoder.prefill_chunk import conditions_here

FACTS = ModelFacts(
    model="model",
    name="model",
    architecture="Qwen2_5_VLForConditionalGeneration",
    revision="abc",
    pixels_per_token=784,
    image_tokens=(4, 1024),
    image_pixels=None,
    max_model_len=2048,
    metadata_fields=("image_grid_thw",),
)


def test_a_decoder_that_was_measured_is_known_and_another_is_not(
    setting: Setting, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chiasm_cluster, "check_model", lambda *_arguments: FACTS)
    config = cluster_config(Arrangement.SPLIT, setting, "key")
    assert known_chunk(config) is None
    conditions = conditions_here(ClusterConfig.model_validate(config), FACTS, setting.cores[1])
    save(cache_folder(), conditions, (Step(1, 16, 0.1),))
    found = known_chunk(config)
    assert found is not None
    assert (found.tokens, found.streams) == (16, 1)
    assert known_chunk(cluster_config(Arrangement.SPLIT, replace(setting, itl_slo_ms=100.0), "key")) is None
    assert known_chunk(cluster_config(Arrangement.SPLIT_STEAL, setting, "key")) is None  # half of the KV cache


def test_the_command_has_the_configuration(setting: Setting) -> None:
    config = cluster_config(Arrangement.SPLIT, setting, "key")
    command = serve_command(config, setting.model)
    assert command[1:3] == ["serve", "--config"]
    assert load_config(setting.model / "cluster.yaml", {}) == ClusterConfig.model_validate(config)
