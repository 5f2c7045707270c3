"""What an engine is started with."""

import json
from pathlib import Path
from types import SimpleNamespace

import pytest

from chiasm.engine import Engine, EngineFailed, EngineSpec
from chiasm.nouns import Role
from chiasm.telemetry.engine.memory import RECORDS_VARIABLE


def spec(role: Role, **settings: object) -> EngineSpec:
    return EngineSpec(**{"name": "e", "role": role, "model": "m", "served_name": "s", "token": "secret"} | settings)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("role", "connector", "ec_role", "takes_media"),
    [
        (Role.ENCODER, "encoder.connector", "ec_producer", True),
        (Role.DECODER, "decoder.connector", "ec_consumer", False),
        (Role.TEXT, None, None, False),
        (Role.WHOLE, None, None, True),
    ],
)
def test_each_role_has_its_flags(role: Role, connector: str | None, ec_role: str | None, takes_media: bool) -> None:
    command = spec(role, connector={"worker": "w"}).command(7000)
    assert ("--limit-mm-per-prompt" in command) == (not takes_media)
    assert ("--ec-transfer-config" in command) == (connector is not None)
    if connector is not None:
        transfer = json.loads(command[command.index("--ec-transfer-config") + 1])
        assert (transfer["ec_connector_module_path"], transfer["ec_role"]) == (connector, ec_role)
        assert transfer["ec_connector_extra_config"] == {"worker": "w"}


def test_arguments_of_the_configuration_come_last_so_they_win() -> None:
    assert spec(Role.WHOLE, args=("--port", "1")).command(7000)[-2:] == ["--port", "1"]


def test_the_token_is_in_the_environment_and_not_on_the_command_line(tmp_path: Path) -> None:
    whole = spec(Role.WHOLE)
    assert "secret" not in " ".join(whole.command(7000))
    assert whole.environment(tmp_path)["VLLM_API_KEY"] == "secret"


def test_our_plugin_is_named_beside_those_that_are_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("VLLM_PLUGINS", raising=False)
    named = spec(Role.WHOLE).environment(tmp_path)["VLLM_PLUGINS"].split(",")
    assert {"chiasm", "chiasm_models", "chiasm_records"} <= set(named)
    monkeypatch.setenv("VLLM_PLUGINS", "theirs")
    named = spec(Role.WHOLE).environment(tmp_path)["VLLM_PLUGINS"].split(",")
    assert named == ["theirs", "chiasm", "chiasm_models", "chiasm_records"]


@pytest.mark.parametrize("role", Role)
@pytest.mark.parametrize(("records", "said"), [(True, "1"), (False, "0")])
def test_an_engine_remembers_what_it_does_unless_told_not_to(
    tmp_path: Path, role: Role, records: bool, said: str
) -> None:
    engine = spec(role, records=records)
    assert engine.environment(tmp_path)[RECORDS_VARIABLE] == said
    assert ("--enable-logging-iteration-details" in engine.command(7000)) == records
    assert ("chiasm_records" in engine.environment(tmp_path)["VLLM_PLUGINS"].split(",")) == records


def test_an_engine_sends_its_own_spans_where_it_is_told_to(tmp_path: Path) -> None:
    engine = spec(Role.WHOLE, traces="http://collector:4317")
    assert engine.command(7000)[-2:] == ["--otlp-traces-endpoint", "http://collector:4317"]
    assert engine.environment(tmp_path)["OTEL_SERVICE_NAME"] == f"chiasm-{engine.name}"
    assert "--otlp-traces-endpoint" not in spec(Role.WHOLE).command(7000)


def test_records_are_kept_where_nothing_is_said() -> None:
    assert spec(Role.WHOLE).records


@pytest.mark.parametrize(("cpus", "binding"), [("0-3", "0-3"), (None, "nobind")])
def test_compute_threads_are_bound_only_where_asked(tmp_path: Path, cpus: str | None, binding: str) -> None:
    assert spec(Role.WHOLE, cpus=cpus).environment(tmp_path)["VLLM_CPU_OMP_THREADS_BIND"] == binding


@pytest.mark.engine
@pytest.mark.timeout(120)
def test_an_engine_that_cannot_start_says_why_and_leaves_nothing() -> None:
    engine = Engine(spec(Role.WHOLE, args=("--no-such-flag",)), log=lambda _line: None)
    try:
        with pytest.raises(EngineFailed, match="no-such-flag"):
            engine.wait_ready(60)
    finally:
        engine.stop()
    assert not engine.runtime.exists()


@pytest.mark.parametrize(
    ("page", "tokens"),
    [
        ('vllm:cache_config_info{block_size="128",kv_cache_size_tokens="69888",mamba_block_size="7"} 1.0', 69_760),
        ('vllm:cache_config_info{block_size="16",kv_cache_size_tokens="None"} 1.0', 0),
        ("", 0),
    ],
)
def test_the_block_that_vllm_keeps_for_itself_is_no_room(page: str, tokens: int) -> None:
    engine = SimpleNamespace(get=lambda _path: f"# HELP\n{page}\nother 1.0\n")
    assert Engine.kv_cache_tokens(engine) == tokens  # type: ignore[arg-type]
