"""What a pool may not say of its nodes, its engines' arguments and its cards."""

from pathlib import Path

import pytest
import yaml

from chiasm.arguments import as_list, glued
from chiasm.config import ClusterConfig
from chiasm.config_file import ConfigError, load_config
from chiasm.labels import is_label_name, is_label_value, named_values, selector_faults


def errors(folder: Path, text: str) -> list[str]:
    """The lines of the error about this text, each without the place."""
    path = folder / "c.yaml"
    path.write_text(text)
    try:
        load_config(path)
    except ConfigError as error:
        return [line.partition(": ")[2] for line in str(error).splitlines()]
    return []


@pytest.mark.parametrize(
    "value",
    ["", "GeForce-RTX-4090", "!spot", "in(L4,L40S)", "in(L4, L40S)", "!in(a)", "a_b.c-d", "0", "x" * 63],
)
@pytest.mark.parametrize("key", ["zone", "ray.io/accelerator-type", "My.Corp/pool", "a_b"])
def test_what_ray_chooses_nodes_by_is_taken(key: str, value: str) -> None:
    """Ray agrees."""
    from ray._private.label_utils import validate_label_selector

    assert validate_label_selector({key: value}) is None
    assert list(selector_faults({key: value})) == []


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("zone", "not so"),
        ("zone", "-a"),
        ("zone", "a-"),
        ("zone", "in()"),
        ("zone", "in(a,)"),
        ("zone", "in(a;b)"),
        ("zone", "!!a"),
        ("zone", "!"),
        ("zone", "x" * 64),
        ("zone", "a=b"),
        ("a b", "c"),
        ("", "c"),
        ("corp/", "c"),
        ("-x", "c"),
        ("a/b/c", "d"),
        ("p" * 254 + "/a", "b"),
    ],
)
def test_what_ray_would_refuse_is_refused(key: str, value: str) -> None:
    """Ray agrees, and would say so only when it is asked to place a worker."""
    from ray._private.label_utils import validate_label_selector

    assert validate_label_selector({key: value}) is not None
    assert len(list(selector_faults({key: value}))) == 1


def test_a_label_of_kubernetes_has_no_operators() -> None:
    assert is_label_value("NVIDIA-GeForce-RTX-4090")
    assert is_label_value("")
    assert not is_label_value("in(a,b)")
    assert is_label_name("nvidia.com/gpu.product")
    assert not is_label_name("My.Corp/pool")


def test_the_values_that_a_selector_names() -> None:
    assert named_values("L4") == (True, ["L4"])
    assert named_values("!L4") == (False, ["L4"])
    assert named_values("in(L4, L40S)") == (True, ["L4", "L40S"])
    assert named_values("!in(L4)") == (False, ["L4"])


@pytest.mark.parametrize("field", ["labels: {zone: not so}", "labels: {a: b}, fallbacks: [{}, {zone: not so}]"])
@pytest.mark.parametrize("pool", ["encoders", "decoders", "wholes"])
def test_labels_and_fallbacks_are_looked_at_in_every_pool(tmp_path: Path, pool: str, field: str) -> None:
    [error] = errors(tmp_path, f"{pool}: {{{field}}}")
    where = "fallbacks" if "fallbacks" in field else "labels"
    assert error.startswith(f'{pool}.{where}: "not so" for zone chooses nothing.')
    assert error.endswith("Do you mean not-so?")


@pytest.mark.parametrize("field", ["encoders.engine_args", "decoders.engine_args", "wholes.engine_args"])
def test_a_flag_and_its_value_in_one_item_are_two(tmp_path: Path, field: str) -> None:
    pool, _, name = field.partition(".")
    [error] = errors(tmp_path, f"{pool}: {{{name}: [--max-num-seqs 9 --enforce-eager]}}")
    assert error == (
        f'{field}: "--max-num-seqs 9 --enforce-eager" is one argument, and vLLM wants a flag and its value apart. '
        "Write [--max-num-seqs, '9', --enforce-eager]."
    )
    assert "apart" in errors(tmp_path, "encoders: {text_engine_args: [--max-num-seqs 9]}")[0]


def test_only_a_flag_is_taken_apart() -> None:
    fine = ["--chat-template", "- a b", "--a=b c", "--hf-overrides", '{"a": 1}', "-tp", "2", "plain words"]
    assert list(glued(fine)) == []
    [message] = glued(['--hf-overrides {"a": 1}'])
    assert yaml.safe_load(message.partition("Write ")[2].removesuffix(".")) == ["--hf-overrides", '{"a": 1}']


def test_words_as_a_list_are_what_yaml_reads_back() -> None:
    assert yaml.safe_load(as_list("--a 1 --b true, c") or "") == ["--a", "1", "--b", "true", "c"]
    assert as_list("--a 'b c'") is None


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            'decoders: {gpus: 1, engine_args: [--tensor-parallel-size, "2"]}',
            "decoders.engine_args: --tensor-parallel-size 2 is 2 cards for one engine, and decoders.gpus is 1. Set "
            "that to 2, or ask for fewer here.",
        ),
        ("encoders: {gpus: 0.5, engine_args: [-tp=2]}", "encoders.engine_args: --tensor-parallel-size 2 is 2 cards"),
        (
            "decoders: {gpus: 2, engine_args: [--tensor_parallel_size=2, -pp, '2']}",
            "--tensor-parallel-size 2 times --pipeline-parallel-size 2 is 4 cards for one engine, and decoders.gpus is",
        ),
        (
            "decoders: {gpus: 2, engine_args: [-tp=2]}\nwholes: {count: 1, gpus: 1}",
            "wholes.engine_args: --tensor-parallel-size 2 is 2 cards for one engine, and wholes.gpus is 1",
        ),
        (
            "decoders: {gpus: 2, engine_args: [-tp=2, -dp, '2']}",
            "--tensor-parallel-size 2 times --data-parallel-size 2 is 4 cards for one engine, and decoders.gpus is 2",
        ),
        (
            "decoders: {gpus: 1, engine_args: [-pcp=2]}",
            "decoders.engine_args: --prefill-context-parallel-size 2 is 2 cards for one engine, and decoders.gpus is 1",
        ),
        (
            "scheduler: {stealing: yield}\ndecoders: {gpus: 2, engine_args: [-tp=2]}\nencoders: {gpus: 1, engine_args: "
            "[--gpu-memory-utilization=0.3], text_engine_args: [--gpu-memory-utilization=0.6, "
            "--kv-cache-memory-bytes=4G]}",
            "encoders.text_engine_args: --tensor-parallel-size 2 is 2 cards for one engine, and encoders.gpus is 1",
        ),
    ],
)
def test_an_engine_has_no_more_cards_than_its_worker(tmp_path: Path, text: str, said: str) -> None:
    [error] = errors(tmp_path, text)
    assert said in error


@pytest.mark.parametrize(
    "text",
    [
        "decoders: {gpus: 2, engine_args: [-tp=2]}",
        "decoders: {gpus: 4, engine_args: [-tp=2, -dp=2]}",
        "decoders: {gpus: 0.5, engine_args: [-tp=1]}",
        "decoders: {engine_args: [-tp=2]}",  # on cores, or on all cards that a host of one's own has
        "decoders: {gpus: 1, engine_args: [-tp=8, -tp=1]}",  # the last counts
        "decoders: {gpus: 1, engine_args: [-tp=2, --distributed-executor-backend=ray]}",
        "decoders: {gpus: 1, engine_args: [-tp=2, -n, '2']}",
        "decoders: {gpus: 2, engine_args: [-tp=2, -dp=4, -dpl=1]}",
        "decoders: {gpus: 2, engine_args: [-tp=2, -dp=2, --data-parallel-external-lb, -dpn=0]}",
        "decoders: {gpus: 2, engine_args: [-tp=2]}\nwholes: {gpus: 1}",  # there are none
        "decoders: {gpus: 2}",
    ],
)
def test_an_engine_that_may_have_its_cards_is_let_be(tmp_path: Path, text: str) -> None:
    assert errors(tmp_path, text) == []


def test_somebody_generates(tmp_path: Path) -> None:
    [error] = errors(tmp_path, "decoders: {count: 0}")
    assert error.startswith("decoders.count: it is 0, and so is wholes.count: nobody would generate")
    assert errors(tmp_path, "decoders: {count: 0}\nwholes: {count: 1}") == []
    assert ClusterConfig().decoders.count == 1
