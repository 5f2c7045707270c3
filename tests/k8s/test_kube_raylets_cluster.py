"""The overlay `rtx4090-a100` booted from its manifests: a Ray node for each of its pods, on one machine, and the
launcher's command in the gateway's. Cards only count, and engines only look like one."""

import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import in_pod
import pytest
import yaml
from chat_inputs import chat_body, data_url, png
from kube_pods import HEAD_GROUP, of_kind
from kube_raylets import launcher, start
from kube_tools import OVERLAYS, objects_of
from raylets import Raylets, raylets, until
from serving import Serving, running_command

from chiasm.client import post_json
from chiasm.config_file import load_config
from chiasm.kubernetes.cluster_file import on_kubernetes
from chiasm.kubernetes.secrets import new_secrets

pytestmark = [pytest.mark.engine, pytest.mark.timeout(600)]

NAME = "rtx4090-a100"


@dataclass(frozen=True)
class Booted:
    """The nodes, whose names go by their groups."""

    nodes: Raylets
    names: dict[str, list[str]]

    def groups(self) -> dict[str, str]:
        """The group on which each actor is."""
        return {actor: node.rpartition("-")[0] for actor, node in self.nodes.whereabouts().items()}


@pytest.fixture(scope="module")
def booted() -> Iterator[Booted]:
    with raylets() as nodes:
        yield Booted(nodes, start(objects_of(NAME), nodes))


@contextmanager
def launched(booted: Booted, folder: Path, cluster_yaml: str) -> Iterator[tuple[Serving, str]]:
    """What the RayJob runs, and a key for its operators.

    Of the configuration the ports are free ones, as other tests run on this machine, and nothing measures the chunks of
    prompts, as there is no engine to measure.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        scheduler = {"port": free.getsockname()[1], "prefill_chunk": 0}
    config = yaml.safe_load(cluster_yaml)
    config["scheduler"] = {**config.get("scheduler", {}), **scheduler}
    files = {"/etc/chiasm/cluster.yaml": yaml.safe_dump(config), "/etc/chiasm-keys/keys.yaml": _keys()}
    node, words = launcher(objects_of(NAME), booted.names)
    for path, text in files.items():
        mine = folder / Path(path).name
        mine.write_text(text)
        words[words.index(path)] = str(mine)
    assert words.pop(0) == "chiasm"
    command = [sys.executable, in_pod.__file__, node, *words, "--host", "127.0.0.1", "--port", "0"]
    with running_command(command, RAY_ADDRESS=booted.nodes.address) as serving:
        yield serving, yaml.safe_load(files["/etc/chiasm-keys/keys.yaml"])["operator_keys"][0]


def _keys() -> str:
    secrets: Any = new_secrets("chiasm")
    [text] = [each["stringData"]["keys.yaml"] for each in secrets if "keys.yaml" in each["stringData"]]
    return str(text)


def test_every_actor_lands_on_its_group(booted: Booted, tmp_path: Path) -> None:
    [config] = [each for each in of_kind(objects_of(NAME), "ConfigMap") if "cluster.yaml" in each["data"]]
    with launched(booted, tmp_path, config["data"]["cluster.yaml"]) as (serving, key):
        encoders, decoders = (f"encoder-{index}" for index in range(8)), (f"decoder-{index}" for index in range(4))
        assert booted.groups() == {
            "scheduler": "gateway",
            "gateway": "gateway",
            **dict.fromkeys(encoders, "encoder"),
            **dict.fromkeys(decoders, "decoder"),
        }
        places = booted.nodes.whereabouts()
        assert len({places[actor] for actor in places if "-" in actor}) == 12  # each worker has a pod for itself
        assert booted.names[HEAD_GROUP][0] not in places.values()
        status = serving.status(key)
        assert status["ready"]
        assert [worker["fallback"] for worker in status["workers"]] == [""] * 12
        body = chat_body(data_url(png()), max_tokens=3) | {"model": "m"}
        answer, _ = post_json(serving.url, "/v1/chat/completions", body, key)
        assert answer["choices"][0]["message"]["content"] == "0 1 2 "


def test_without_its_group_a_worker_takes_its_fallback_and_says_so(booted: Booted, tmp_path: Path) -> None:
    """The RTX 4090s are missing, and there are A100s beside the decoders."""
    for name in booted.names["encoder"]:
        booted.nodes.lose(name)
    fallbacks = {"encoders.labels": {"chiasm-pool": "encoder"}, "encoders.fallbacks": [{"chiasm-pool": "decoder"}]}
    config = load_config(OVERLAYS / NAME / "cluster.yaml", {"encoders.count": 2, "decoders.count": 2, **fallbacks})
    text = (
        "no node with chiasm-pool=encoder could take it, so it runs on a node with chiasm-pool=decoder: a fallback of "
        "its pool"
    )
    with launched(booted, tmp_path, on_kubernetes(config)) as (serving, key):
        workers = ("encoder-0", "encoder-1", "decoder-0", "decoder-1")
        assert booted.groups() == {"scheduler": "gateway", "gateway": "gateway", **dict.fromkeys(workers, "decoder")}
        told = {worker["worker"]: worker["fallback"] for worker in serving.status(key)["workers"]}
        assert told == {"encoder-0": text, "encoder-1": text, "decoder-0": "", "decoder-1": ""}
        warnings = {f"warning: {worker}: {text}" for worker in ("encoder-0", "encoder-1")}
        until(lambda: all(warning in printed(serving) for warning in warnings))


def printed(serving: Serving) -> str:
    """What it has said so far, as one line."""
    return " ".join("".join(serving.lines).split())
