"""The configuration file: what it may say, and what is said of one that does not fit."""

from pathlib import Path

import pytest
from PIL import Image

from chiasm.config import ClusterConfig, GatewayConfig, SchedulerConfig, WireConfig
from chiasm.config_file import ConfigError, load_config
from chiasm.models.builtin import ENGINE_ARGS, PREFILL_CHUNK, with_builtin_model
from chiasm.pools import EncodersConfig


def write(folder: Path, text: str) -> Path:
    path = folder / "c.yaml"
    path.write_text(text)
    return path


def errors(folder: Path, text: str) -> list[str]:
    """The lines of the error about this text, each without the path."""
    path = write(folder, text)
    with pytest.raises(ConfigError) as caught:
        load_config(path)
    return [line.removeprefix(f"{path}:") for line in str(caught.value).splitlines()]


@pytest.mark.parametrize("text", ["", "# nothing yet\n", "---\n", "gateway:\nencoders:\n"])
def test_what_is_not_said_is_default(tmp_path: Path, text: str) -> None:
    assert load_config(write(tmp_path, text)) == ClusterConfig() == load_config(None)


def test_what_is_set_is_taken(tmp_path: Path) -> None:
    config = load_config(write(tmp_path, "encoders: {count: 3, gpus: 0.5}\ngateway: {port: 0}\n"))
    assert (config.encoders.count, config.encoders.gpus, config.gateway.port) == (3, 0.5, 0)


def test_options_win_over_the_file(tmp_path: Path) -> None:
    path = write(tmp_path, "model: a\nencoders: {count: 3}\ngateway:\n")
    config = load_config(path, {"model": "b", "encoders.count": 2, "gateway.port": 5})
    assert (config.model, config.encoders.count, config.gateway.port) == ("b", 2, 5)


def test_options_are_checked_together_with_the_file(tmp_path: Path) -> None:
    path = write(tmp_path, 'encoders: {cpus: ["0"]}')
    with pytest.raises(ConfigError, match=r"encoders\.cpus: there are cores for 1 of 2 workers"):
        load_config(path, {"encoders.count": 2})
    with pytest.raises(ConfigError, match=r"^scheduler\.port: gateway\.port is 7555 too"):
        load_config(None, {"gateway.port": 7555})


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("encoder: {count: 3}", "1:1: encoder: there is no such field. Did you mean encoders?"),
        ("encoders:\n  cuont: 3", "2:3: encoders.cuont: there is no such field. Did you mean encoders.count?"),
        ("decoders: {gpu: 1}", "1:12: decoders.gpu: there is no such field. Did you mean decoders.gpus?"),
        ("host: a", "1:1: host: there is no such field. Did you mean gateway.host?"),
        ("wire: {revision: a}", "1:8: wire.revision: there is no such field. Did you mean revision?"),
    ],
)
def test_an_unknown_field_is_refused_with_the_nearest_name(tmp_path: Path, text: str, error: str) -> None:
    assert errors(tmp_path, text) == [error]


@pytest.mark.parametrize("text", ["decoders: {tensor_parallel_size: 2}", "xyz: 1", "8000: 1"])
def test_where_nothing_is_near_all_names_are_given(tmp_path: Path, text: str) -> None:
    [error] = errors(tmp_path, text)
    assert "There are: " in error
    assert ("go into decoders.engine_args" in error) == text.startswith("decoders")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("gateway: {port: 70000}", "takes a whole number from 0 to 65535 (port to listen on; 0 takes a free one)"),
        ("gateway: {port: 70000}", "not the number 70000"),
        ('gateway: {port: "8000"}', "Write 8000, without quotes."),
        ("gateway: {max_items: 2.5}", "takes a whole number, 1 or more"),
        ("gateway: {allow_processor_options: 1}", "takes true or false"),
        ("gateway: {request_timeout_s: .inf}", "takes a number above 0"),
        ("wire: {chunk_bytes: 1e6}", 'not the text "1e6". Write 1000000, without quotes.'),  # YAML 1.1 wants 1.0e+6
        ("encoders: {count: true}", "not true"),
        ("encoders: {count: -1}", "takes a whole number, 0 or more"),
        ("encoders: [1]", "takes a mapping of count, cpus, gpus"),
        ("decoders: {engine_args: [--max-model-len, 4096]}", 'not the number 4096. Put it in quotes: "4096".'),
        ("decoders: {engine_args: --enforce-eager}", "Put it in brackets: [--enforce-eager]."),
        ("decoders: {engine_args: --max-model-len 4096}", "Put it in brackets: [--max-model-len, '4096']."),
        ("decoders: {engine_args: '--hf-overrides {\"a\": 1}'}", "Make it a list, with an item for each word."),
        (
            "kubernetes: {memory: {decoders: 64G}}",
            "kubernetes.memory.decoders: takes a whole number with Ki, Mi, Gi or Ti",
        ),
        ("kubernetes: {memory: {decoders: 64G}}", "not 64G. Write 64Gi."),
        ("kubernetes: {memory: {decoders: 64}}", "not 64. Write it like 16Gi."),
        (
            "kubernetes: {model_cache: 40 gb}",
            "kubernetes.model_cache: takes a whole number with Ki, Mi, Gi or Ti; not 40 gb. Write 40Gi.",
        ),
        ("decoders: {labels: {a: yes}}", 'not true. Put it in quotes: "true".'),
        ("model: 2026-11-25", "not a date"),
        ("security: none", "takes auto or curve"),
        ("telemetry: {trace_part: 1.5}", "takes a number from 0 to 1"),
        ("telemetry: {timelines: -1}", "takes a whole number, 0 or more"),
        ("- a list", "must be a mapping"),
        ("just text", "must be a mapping"),
    ],
)
def test_a_value_that_does_not_fit_is_told_what_does(tmp_path: Path, text: str, said: str) -> None:
    [error] = errors(tmp_path, text)
    assert said in error


def test_every_error_is_listed_in_the_order_of_the_file(tmp_path: Path) -> None:
    found = errors(tmp_path, "gateway:\n  port: -1\n  prot: 1\nmodel: 5\nencoders:\n  engine_args:\n    - a\n    - 1\n")
    places = [error.partition(": ")[2].partition(":")[0] for error in found]
    assert places == ["gateway.port", "gateway.prot", "model", "encoders.engine_args[1]"]
    assert [error.partition(":")[0] for error in found] == ["2", "3", "4", "8"]


def test_a_name_that_is_there_twice_is_refused_at_every_depth(tmp_path: Path) -> None:
    found = errors(tmp_path, "model: a\nencoders:\n  env: {A: x, A: y}\n  count: 1\n  count: 2\nmodel: b\n")
    assert [error.split(": ")[1] for error in found] == ["encoders.env.A", "encoders.count", "model"]
    assert found[2] == "6:1: model: is there twice, in lines 1 and 6. Keep one."


@pytest.mark.parametrize(
    ("text", "place", "said"),
    [
        ("a: [1, 2\nb: 3\n", "2:2:", "expected ',' or ']'"),
        ("gateway:\n\tport: 1\n", "2:1:", "YAML takes no tabs"),
        ("model: a: b\n", "1:9:", "mapping values are not allowed here"),
        ("model: !!python/name:os.system\n", "1:8:", "Write plain texts"),
        ("a: *b\n", "1:4:", "undefined alias"),
        ("a: 1\n---\nb: 1\n", "2:1:", "another document"),
    ],
)
def test_what_is_not_yaml_is_refused_at_its_place(tmp_path: Path, text: str, place: str, said: str) -> None:
    [error] = errors(tmp_path, text)
    assert error.startswith(place)
    assert said in error


@pytest.mark.parametrize("content", [b"\xff\xfe\x00", b"a: \x01", b"model: 2026-13-45", b"[" * 5000])
def test_what_cannot_be_read_is_refused_by_name(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "c.yaml").write_bytes(content)
    with pytest.raises(ConfigError, match=r"c\.yaml"):
        load_config(tmp_path / "c.yaml")


@pytest.mark.parametrize("name", ["none.yaml", "."])
def test_a_file_that_is_not_there_is_named(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigError, match=r"cannot read .*\. Name a file"):
        load_config(tmp_path / name)


def test_an_alias_that_holds_itself_is_refused_and_not_followed(tmp_path: Path) -> None:
    [error] = errors(tmp_path, "encoders: &a\n  env: {A: *a}\n")
    assert "2:9: encoders.env: takes" in error


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("gateway: {port: 7555}", "scheduler.port: gateway.port is 7555 too"),
        ("scheduler: {heartbeat_s: 10}", "scheduler.heartbeat_timeout_s: 10.0 s are over before"),
        ("gateway: {max_held_bytes: 1000}", "gateway.max_held_bytes: a request of max_body_bytes = 67108864"),
        ("wire: {store_bytes: 1000}", "wire.store_bytes: 1000 bytes have no room"),
        ("wire: {landing_bytes: 1000}", "wire.landing_bytes: 1000 bytes have no room"),
        ("encoders: {fallbacks: [{a: b}]}", "encoders.fallbacks: there are no labels that they stand in for"),
        ("encoders: {fallbacks: {a: b}}", "encoders.fallbacks: takes a list of mappings of names to texts"),
        ('decoders: {cpus: ["0"], count: 2}', "decoders.cpus: there are cores for 1 of 2 workers"),
        ("gateway: {api_keys: [a], api_key_weights: {b: 2}}", "gateway.api_key_weights: one of its keys is not in"),
        ('decoders: {cpus: ["3-0"]}', 'decoders.cpus: "3-0" is no list of cores'),
        ('encoders: {engine_args: [--port, "1"]}', "encoders.engine_args: --port is set by Chiasm"),
        ("encoders: {env: {VLLM_API_KEY: a}}", "encoders.env: VLLM_API_KEY is set by Chiasm"),
        ("encoders: {engine_args: [--dtype=half]}", "decoders.engine_args: --dtype must be the same"),
        ('encoders: {text_engine_args: [--port, "1"]}', "encoders.text_engine_args: --port is set by Chiasm"),
        (
            "scheduler: {prefill_chunk: 64}\ndecoders: {engine_args: [--max-num-batched-tokens=64]}",
            "scheduler.prefill_chunk: decoders.engine_args has --max-num-batched-tokens, which says the same",
        ),
        ("telemetry: {otlp_endpoint: collector:4317}", 'telemetry.otlp_endpoint: "collector:4317" is no address'),
        ('wholes: {engine_args: [--port, "1"]}', "wholes.engine_args: --port is set by Chiasm"),
        ('wholes: {count: 2, cpus: ["0"]}', "wholes.cpus: there are cores for 1 of 2 workers"),
        ("wholes: {engine_args: [--dtype=half]}", "wholes.engine_args: --dtype must be what decoders have"),
        (
            "encoders: {text_engine_args: [--max-model-len=512]}",
            "encoders.text_engine_args: --max-model-len must be what decoders have",
        ),
        (
            "wholes: {engine_args: [--generation-config=vllm]}",
            "wholes.engine_args: --generation-config must be what decoders have. Set it in decoders.engine_args",
        ),
        (
            "encoders: {text_engine_args: [--reasoning-parser=qwen3]}",
            "encoders.text_engine_args: --reasoning-parser must be what decoders have. Set it in decoders.engine_args",
        ),
    ],
)
def test_values_that_contradict_each_other_are_refused(tmp_path: Path, text: str, said: str) -> None:
    [error] = errors(tmp_path, text)
    assert said in error


@pytest.mark.parametrize(
    ("text", "mode"), [("", "off"), ("off", "off"), ('"off"', "off"), ("yield", "yield"), ("share", "share")]
)
def test_stealing_is_off_unless_asked_for(tmp_path: Path, text: str, mode: str) -> None:
    """Also where YAML reads `off` as false."""
    section = f"scheduler: {{stealing: {text}}}" if text else ""
    assert load_config(write(tmp_path, section)).scheduler.stealing == mode


@pytest.mark.parametrize("text", ["on", "true", "steal", "0"])
def test_another_way_of_stealing_is_refused(tmp_path: Path, text: str) -> None:
    [error] = errors(tmp_path, f"scheduler: {{stealing: {text}}}")
    assert "scheduler.stealing: takes off or yield or share" in error


def test_nobody_steals_without_encoders(tmp_path: Path) -> None:
    [error] = errors(tmp_path, "scheduler: {stealing: share}\nencoders: {count: 0}")
    assert "scheduler.stealing: encoders' cards are what steals, and encoders.count is 0" in error
    load_config(write(tmp_path, "encoders: {count: 0}"))


GPU = "scheduler: {stealing: yield}\nencoders:\n  gpus: 1\n"


def test_two_engines_on_one_gpu_must_share_its_memory(tmp_path: Path) -> None:
    found = errors(tmp_path, GPU)
    assert ["gpu-memory-utilization" in error or "kv-cache-memory-bytes" in error for error in found] == [True] * 3
    halves = "  engine_args: [--gpu-memory-utilization=0.3]\n  text_engine_args: [--gpu-memory-utilization, "
    assert "--kv-cache-memory-bytes" in errors(tmp_path, f'{GPU}{halves}"0.6"]')[0]
    [error] = errors(tmp_path, f'{GPU}{halves}"0.8", --kv-cache-memory-bytes=4G]')
    assert "encoders.text_engine_args: --gpu-memory-utilization is 0.8 here and 0.3 in engine_args" in error
    load_config(write(tmp_path, f'{GPU}{halves}"0.7", --kv-cache-memory-bytes=4G]'))


def test_one_engine_has_its_gpu_for_itself(tmp_path: Path) -> None:
    load_config(write(tmp_path, GPU.replace("yield", "off")))
    load_config(write(tmp_path, "scheduler: {stealing: yield}\ndecoders: {gpus: 1}"))


def test_a_text_engine_gets_what_decoders_get_and_its_own_after_that(tmp_path: Path) -> None:
    decoders = "decoders: {engine_args: [--enforce-eager, --max-num-seqs=9]}\n"
    config = load_config(write(tmp_path, decoders + "encoders: {text_engine_args: [--max-num-seqs=2]}"))
    assert config.text_engine_args == ["--enforce-eager", "--max-num-seqs=9", "--max-num-seqs=2"]


def test_a_text_engine_of_the_builtin_model_gets_what_that_needs() -> None:
    assert with_builtin_model(ClusterConfig()).text_engine_args == list(ENGINE_ARGS)


def test_there_are_no_whole_workers_unless_asked_for(tmp_path: Path) -> None:
    assert load_config(write(tmp_path, "wholes: {env: {A: b}}")).wholes.count == 0
    assert load_config(write(tmp_path, "wholes: {count: 2}")).wholes.count == 2
    assert load_config(None, {"wholes.count": 1}).wholes.count == 1


def test_a_whole_worker_gets_what_decoders_get_and_its_own_after_that(tmp_path: Path) -> None:
    decoders = "decoders: {engine_args: [--enforce-eager, --max-num-seqs=9]}\n"
    config = load_config(write(tmp_path, decoders + "wholes: {engine_args: [--max-num-seqs=2]}"))
    assert config.whole_engine_args == ["--enforce-eager", "--max-num-seqs=9", "--max-num-seqs=2"]
    assert with_builtin_model(ClusterConfig()).whole_engine_args == list(ENGINE_ARGS)


def test_the_builtin_model_has_a_chunk_of_its_own_unless_one_is_set() -> None:
    assert with_builtin_model(ClusterConfig()).scheduler.prefill_chunk == PREFILL_CHUNK
    for chunk in (0, 64):
        config = ClusterConfig(scheduler=SchedulerConfig(prefill_chunk=chunk))
        assert with_builtin_model(config).scheduler.prefill_chunk == chunk
    config = ClusterConfig(model="another")
    assert with_builtin_model(config).scheduler.prefill_chunk is None


def test_secrets_are_shown_nowhere(tmp_path: Path) -> None:
    [error] = errors(tmp_path, "gateway: {api_keys: [123456]}")
    assert "123456" not in error
    [error] = errors(tmp_path, "gateway: {api_keys: hush}")
    assert "hush" not in error
    [error] = errors(tmp_path, "gateway: {api_keys: [hush], api_key_weights: {hush: 0}}")
    assert "hush" not in error
    keys = GatewayConfig(api_keys=["hush"], api_key_weights={"hush": 2.0})
    config = ClusterConfig(gateway=keys, encoders=EncodersConfig(env={"HF_TOKEN": "hush"}))
    assert "hush" not in repr(config)


def test_no_more_pixels_are_allowed_than_an_image_can_be_read_with(tmp_path: Path) -> None:
    most = 2 * Image.MAX_IMAGE_PIXELS  # from where on Pillow raises an error instead of a warning
    assert load_config(write(tmp_path, f"gateway: {{max_item_pixels: {most}}}")).gateway.max_item_pixels == most
    [error] = errors(tmp_path, f"gateway: {{max_item_pixels: {most + 1}}}")
    assert f"gateway.max_item_pixels: takes a whole number from 1 to {most}" in error


def test_embeddings_have_a_free_port_or_the_one_that_is_set() -> None:
    assert WireConfig().listen_at("10.0.0.7") == "tcp://10.0.0.7:*"
    assert WireConfig(port=7600).listen_at("10.0.0.7") == "tcp://10.0.0.7:7600"
