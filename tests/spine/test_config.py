"""The configuration file."""

from pathlib import Path

import pytest

from chiasm.config import ClusterConfig, ConfigError, load_config


def test_an_empty_file_is_all_defaults(tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text("")
    assert load_config(tmp_path / "c.yaml") == ClusterConfig()


def test_what_is_set_is_taken(tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text("encoders: {count: 3, gpus: 0.5}\ngateway: {port: 0}\n")
    config = load_config(tmp_path / "c.yaml")
    assert (config.encoders.count, config.encoders.gpus, config.gateway.port) == (3, 0.5, 0)


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("encoder: {count: 3}", r"encoder: .* Did you mean encoders\?"),
        ("gateway: {port: 70000}", "gateway.port"),
        ("encoders: {cuont: 3}", r"encoders.cuont: .* Did you mean count\?"),
        ("wire: {chunk_bytes: many}", "wire.chunk_bytes"),
        ("a: [", "cannot read"),
        ("- a list", "must be a mapping"),
    ],
)
def test_what_does_not_fit_is_named(tmp_path: Path, text: str, named: str) -> None:
    (tmp_path / "c.yaml").write_text(text)
    with pytest.raises(ConfigError, match=named):
        load_config(tmp_path / "c.yaml")


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none\.yaml"):
        load_config(tmp_path / "none.yaml")


def test_every_field_is_described() -> None:
    for name, section in ClusterConfig.model_fields.items():
        fields = getattr(section.annotation, "model_fields", None)
        described = [section] if fields is None else fields.values()
        assert all(field.description for field in described), name
