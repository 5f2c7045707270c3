"""`roles: auto` in a configuration: the pools that come of it, what does not go with it, and the command."""

import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from click.testing import CliRunner
from public_models import QWEN_7B, QWEN_72B

from chiasm.cli import main, with_roles
from chiasm.config import ClusterConfig, SchedulerConfig
from chiasm.config_file import ConfigError, load_config
from chiasm.models.builtin import model_folder
from chiasm.pools import EncodersConfig, PoolConfig
from chiasm.silicon.assigned import assign
from chiasm.silicon.roles import NoRoles

LABEL = "ray.io/accelerator-type"
FLEET = {"l4": 8, "a100-sxm4-80gb": 4}


def auto(**more: Any) -> ClusterConfig:
    return ClusterConfig(model="m", roles="auto", **more)


def test_the_pools_are_filled_in_and_the_rest_stays() -> None:
    config = auto(cards=FLEET, decoders=PoolConfig(engine_args=["--max-model-len=8192"], env={"A": "b"}))
    result = assign(config, config.cards, QWEN_7B).config
    assert (result.roles, result.cards) == ("given", {})
    assert (result.encoders.count, result.encoders.gpus, result.encoders.labels) == (8, 1, {LABEL: "L4"})
    assert (result.decoders.count, result.decoders.gpus, result.decoders.labels) == (4, 1, {LABEL: "A100"})
    assert (result.decoders.engine_args, result.decoders.env) == (["--max-model-len=8192"], {"A": "b"})


def test_a_decoder_on_several_cards_is_told_so_and_a_text_engine_is_not() -> None:
    memory, cache = "--gpu-memory-utilization=0.4", "--kv-cache-memory-bytes=4G"
    config = auto(
        scheduler=SchedulerConfig(stealing="yield"),
        encoders=EncodersConfig(engine_args=[memory], text_engine_args=[memory, cache]),
    )
    result = assign(config, {"l4": 8, "h200": 8}, QWEN_72B).config
    assert (result.decoders.count, result.decoders.gpus) == (4, 2)
    assert result.decoders.engine_args == ["--tensor-parallel-size=2"]
    assert result.text_engine_args == ["--tensor-parallel-size=2", "--tensor-parallel-size=1", memory, cache]


def test_several_kinds_in_a_pool_are_any_of_their_names() -> None:
    result = assign(auto(), {"l4": 4, "rtx-4090": 4, "h100-sxm": 4}, QWEN_72B).config
    assert result.encoders.labels == {LABEL: "in(GeForce-RTX-4090,L4)"}


def test_halves_that_ray_s_label_cannot_tell_apart_are_refused() -> None:
    with pytest.raises(NoRoles, match=r"Ray calls cards of both halves H100.*set count, gpus and labels"):
        assign(auto(), {"h100-pcie": 4, "h100-sxm": 4}, QWEN_7B)


def test_no_cards_are_refused() -> None:
    with pytest.raises(NoRoles, match="no cards to divide"):
        assign(auto(), {}, QWEN_7B)


def test_what_a_card_of_two_engines_needs_is_asked_for() -> None:
    with pytest.raises(NoRoles, match="--kv-cache-memory-bytes"):
        assign(auto(scheduler=SchedulerConfig(stealing="yield")), FLEET, QWEN_7B)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("roles: auto\nencoders: {count: 2}", "encoders.count: is decided by roles: auto"),
        ("roles: auto\ndecoders: {labels: {a: b}}", "decoders.labels: is decided by roles: auto"),
        ("roles: auto\ndecoders: {engine_args: [-tp, '2']}", "--tensor-parallel-size is decided by roles: auto"),
        ("roles: auto\nwholes: {count: 1}", "wholes.count: roles: auto leaves them no cards"),
        ("cards: {l4: 2}", "cards: is for roles: auto alone"),
        ("roles: auto\ncards: {l4: 0}", "cards"),
    ],
)
def test_what_contradicts_it_is_refused(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "cluster.yaml").write_text(text)
    with pytest.raises(ConfigError, match=message):
        load_config(tmp_path / "cluster.yaml")


@pytest.fixture
def qwen(monkeypatch: pytest.MonkeyPatch) -> None:
    """transformers, which reads configurations, takes long to import."""

    def read(model: str, **_options: object) -> Any:
        if model not in ("qwen", str(model_folder())):
            raise OSError(f"{model} is not a local folder\nand more")
        return SimpleNamespace(to_dict=lambda: json.loads(json.dumps(QWEN_7B)))

    monkeypatch.setattr("chiasm.hub.require_reachable", lambda *_: None)

    monkeypatch.setitem(sys.modules, "transformers", SimpleNamespace(AutoConfig=SimpleNamespace(from_pretrained=read)))


@pytest.mark.usefixtures("qwen")
def test_the_command_prints_reasons_warnings_and_pools_that_fit(tmp_path: Path) -> None:
    result = CliRunner().invoke(main, ["roles", "qwen", "--cards", "8x l4, 4x a100-80gb"])
    assert result.exit_code == 0, result.output
    assert "Encoders: 8 x NVIDIA L4" in result.stdout
    assert 'warning: "a100-80gb" is taken for NVIDIA A100 80GB PCIe' in result.stderr
    (tmp_path / "cluster.yaml").write_text(result.stdout.partition("# cluster.yaml\n")[2])
    pools = load_config(tmp_path / "cluster.yaml")
    assert (pools.encoders.count, pools.decoders.labels) == (8, {LABEL: "A100"})


@pytest.mark.usefixtures("qwen")
def test_the_command_reads_a_file(tmp_path: Path) -> None:
    (tmp_path / "cluster.yaml").write_text("model: qwen\nroles: auto\ncards: {l40s: 4, h200: 2}")
    result = CliRunner().invoke(main, ["roles", "--config", str(tmp_path / "cluster.yaml"), "--answer-tokens", "64"])
    assert result.exit_code == 0, result.output
    assert "an answer of 64" in result.stdout
    assert "Decoders: 2 x NVIDIA H200" in result.stdout


@pytest.mark.usefixtures("qwen")
def test_the_built_in_model_has_a_name() -> None:
    result = CliRunner().invoke(main, ["roles", "pupil", "--cards", "8x l4, 4x h200"])
    assert result.exit_code == 0, result.output


@pytest.mark.usefixtures("qwen")
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["qwen", "--cards", "8x l5"], 'nothing is known of a card "l5"'),
        (["qwen", "--cards", "l4"], "nothing to divide"),
        (["qwen"], "no cards to divide"),
        (["qwen", "--cards", "0x l4"], "is no number of cards"),
        (["qwen", "--cards", "8 rtx4090 + 4 a100"], 'Write them like "8x rtx-4090, 4x h100"'),
        (["other", "--cards", "8x l4"], "the configuration of other cannot be read: other is not a local folder"),
    ],
)
def test_the_command_says_what_is_wrong(arguments: list[str], message: str) -> None:
    result = CliRunner().invoke(main, ["roles", *arguments])
    assert result.exit_code != 0
    assert message in " ".join(result.output.split())
    assert "Traceback" not in result.output


@pytest.mark.usefixtures("qwen")
def test_serve_takes_the_named_cards_before_the_reported_ones(capsys: pytest.CaptureFixture[str]) -> None:
    config = ClusterConfig(model="qwen", roles="auto")
    assert with_roles(config, FLEET).encoders.count == 8
    assert "Encoders: 8 x NVIDIA L4" in capsys.readouterr().out
    named = ClusterConfig(model="qwen", roles="auto", cards={"l4": 2, "h200": 1})
    assert with_roles(named, FLEET).encoders.count == 2
    with pytest.raises(SystemExit, match="no cards to divide"):
        with_roles(config, {})
