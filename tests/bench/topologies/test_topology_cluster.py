"""What a cluster's decoder is told of its steps: kept where decoders look for it. And how a cluster is started."""

from dataclasses import replace

import pytest

from bench.topologies import chiasm_cluster
from bench.topologies.arrangement import Arrangement
from bench.topologies.calibration import NotCalibrated
from bench.topologies.chiasm_cluster import cluster_config, keep_steps, serve_command
from bench.topologies.setting import Setting
from chiasm.calibration import Step
from chiasm.calibration_cache import cache_folder, load
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


STEPS = (Step(1, 16, 0.1),)


def known(arrangement: Arrangement, setting: Setting) -> tuple[Step, ...]:
    """What the decoder of such a cluster finds as it starts."""
    config = ClusterConfig.model_validate(cluster_config(arrangement, setting, "key"))
    return load(cache_folder(), conditions_here(config, FACTS, setting.cores[1]))


def test_a_decoder_knows_the_steps_that_were_kept_for_it_and_another_does_not(
    setting: Setting, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chiasm_cluster, "check_model", lambda *_arguments: FACTS)
    keep_steps(cluster_config(Arrangement.SPLIT, setting, "key"), STEPS)
    assert known(Arrangement.SPLIT, setting) == STEPS
    assert known(Arrangement.SPLIT, replace(setting, itl_slo_ms=100.0)) == ()
    assert known(Arrangement.SPLIT_STEAL, setting) == ()  # half of the KV cache


def test_where_nothing_can_be_kept_nothing_is_compared(setting: Setting, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chiasm_cluster, "check_model", lambda *_arguments: FACTS)
    monkeypatch.setattr(chiasm_cluster, "cache_folder", lambda: None)
    with pytest.raises(NotCalibrated, match="cannot be kept in a folder of this user"):
        keep_steps(cluster_config(Arrangement.SPLIT, setting, "key"), STEPS)


def test_the_command_has_the_configuration(setting: Setting) -> None:
    config = cluster_config(Arrangement.SPLIT, setting, "key")
    command = serve_command(config, setting.model)
    assert command[1:3] == ["serve", "--config"]
    assert load_config(setting.model / "cluster.yaml", {}) == ClusterConfig.model_validate(config)
