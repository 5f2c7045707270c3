"""Fleets whose workers could land on each other's pods: cards of one kind, and fallbacks."""

from pathlib import Path
from typing import Any

import pytest
from kube_network import reaches
from kube_placement import ray_pods
from kube_pods import of_kind
from kube_semantics import faults
from kube_tools import objects_in

from chiasm.config import ClusterConfig
from chiasm.kubernetes.names import EMBEDDINGS_PORT
from chiasm.kubernetes.reachable import led_nowhere
from chiasm.kubernetes.render import render, write

NODES = {part: {"nvidia.com/gpu.product": "NVIDIA-H100-80GB-HBM3"} for part in ("encoders", "decoders", "wholes")}
PAIR = {"count": 2, "gpus": 1}
H100 = {"ray.io/accelerator-type": "H100"}
TO_ENCODERS, TO_DECODERS, ANYWHERE = [{"chiasm-pool": "encoder"}], [{"ray.io/node-group": "decoder"}], [{}]
ALL = ("encoder", "decoder", "whole")
NOWHERE = "a fallback to pods that are not made"

FLEETS: dict[str, tuple[dict[str, Any], set[tuple[str, str]]]] = {
    # What `chiasm roles` prints for cards of one kind.
    "cards of one kind": (
        {"encoders": {**PAIR, "labels": H100}, "decoders": {**PAIR, "labels": H100}},
        {("decoder", "encoder")},
    ),
    "equal labels": (
        {"encoders": {**PAIR, "labels": {"pool": "a"}}, "decoders": {**PAIR, "labels": {"pool": "a"}}},
        {("decoder", "encoder")},
    ),
    "encoders that may go to decoders' pods": (
        {"encoders": {**PAIR, "labels": H100, "fallbacks": TO_DECODERS}, "decoders": PAIR},
        {("decoder", "encoder"), ("decoder", "decoder")},
    ),
    "decoders that may go to encoders' pods": (
        {"encoders": PAIR, "decoders": {**PAIR, "labels": H100, "fallbacks": TO_ENCODERS}},
        {("decoder", "encoder"), ("encoder", "encoder")},
    ),
    "both anywhere": (
        {
            "encoders": {**PAIR, "labels": H100, "fallbacks": ANYWHERE},
            "decoders": {**PAIR, "labels": H100, "fallbacks": [H100]},
            "wholes": PAIR,
        },
        {(source, target) for source in ALL for target in ALL},
    ),
    "a fallback with too few cards": (
        {"encoders": PAIR, "decoders": {"count": 2, "gpus": 2, "labels": H100, "fallbacks": ANYWHERE}},
        {("decoder", "encoder")},
    ),
    NOWHERE: (
        {"encoders": {**PAIR, "labels": H100, "fallbacks": [{"card": "l4"}]}, "decoders": PAIR},
        {("decoder", "encoder")},
    ),
}
"""With each, from which group to which embeddings may be fetched."""


@pytest.mark.parametrize("fleet", FLEETS)
def test_embeddings_are_fetched_wherever_workers_may_be(fleet: str, tmp_path: Path) -> None:
    given, wanted = FLEETS[fleet]
    config = ClusterConfig.model_validate({**given, "kubernetes": {"nodes": NODES, "monitoring": False}})
    write(render(config, "mine"), tmp_path)
    objects = objects_in(tmp_path / "overlays" / "mine")
    assert faults(objects) == []
    assert bool(list(led_nowhere(config))) == (fleet == NOWHERE)
    policies, ray = of_kind(objects, "NetworkPolicy"), ray_pods(objects)
    assert wanted == {
        (source, target)
        for source in ray
        for target in ray
        if reaches(policies, ray[source], ray[target], EMBEDDINGS_PORT)
    }
