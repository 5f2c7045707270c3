from pathlib import Path

import pytest

from chiasm.config_file import ConfigError, load_config
from chiasm.keys_file import load_keys


def test_keys_join_a_configuration_without_any(tmp_path: Path) -> None:
    cluster, keys = tmp_path / "cluster.yaml", tmp_path / "keys.yaml"
    cluster.write_text("gateway: {max_items: 4}\n")
    keys.write_text("api_keys: [one, two]\noperator_keys: [three]\napi_key_weights: {one: 2.0}\n")
    gateway = load_config(cluster, load_keys(keys)).gateway
    assert gateway.api_keys == ["one", "two"]
    assert gateway.operator_keys == ["three"]
    assert gateway.api_key_weights == {"one": 2.0}
    assert gateway.max_items == 4


def test_no_file_is_no_keys() -> None:
    assert load_keys(None) == {}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("hidden: [one]\n", "takes api_keys, api_key_weights, operator_keys, and nothing else"),
        ("- hidden\n", "takes api_keys"),
        ("api_keys: [hidden\n", "is not YAML that can be read"),
    ],
)
def test_what_is_no_file_of_keys_is_told_without_a_key(text: str, message: str, tmp_path: Path) -> None:
    keys = tmp_path / "keys.yaml"
    keys.write_text(text)
    with pytest.raises(ConfigError, match=message) as error:
        load_keys(keys)
    assert "hidden" not in str(error.value)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"cannot read .*keys\.yaml: No such file"):
        load_keys(tmp_path / "keys.yaml")
