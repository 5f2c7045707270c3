"""What of an engine's command line and environment a pool may not set."""

import os
from pathlib import Path

import pytest

from chiasm.engine import EngineSpec
from chiasm.nouns import Role
from chiasm.reserved import (
    ALIKE,
    DECODERS_DECIDE,
    ENVIRONMENT,
    FLAGS,
    RANKS,
    REPLICAS_APART,
    STEP_LIMITS,
    UNCALIBRATED,
    decoders_flags,
    flags,
    reason_against_calibration,
    refused_flags,
    refused_variables,
    unlike,
)
from chiasm.wire.settings import RUNTIME_VARIABLE

HARMLESS = {"--disable-uvicorn-access-log"}


def spec(role: Role) -> EngineSpec:
    return EngineSpec("e", role, "m", "s", "token", revision="r", cpus="0", traces="http://c:4317")


@pytest.mark.parametrize("role", Role)
def test_every_flag_that_an_engine_is_started_with_is_reserved(role: Role) -> None:
    flags = {argument for argument in spec(role).command(7000) if argument.startswith("--")}
    assert flags - HARMLESS <= FLAGS.keys()


def test_every_variable_that_an_engine_is_started_with_is_reserved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ENVIRONMENT:
        monkeypatch.delenv(name, raising=False)
    before = set(os.environ)
    assert spec(Role.WHOLE).environment(tmp_path).keys() - before == ENVIRONMENT.keys()
    assert RUNTIME_VARIABLE in ENVIRONMENT


@pytest.mark.parametrize("flag", FLAGS)
def test_a_reserved_flag_is_refused_with_a_cure(flag: str) -> None:
    [message] = refused_flags(["--enforce-eager", flag, "value"])
    assert message.startswith(f"{flag} is set by Chiasm: ")
    assert message.count(".") >= 2


@pytest.mark.parametrize(
    "args",
    [
        ["--served-model-name=x"],
        ["--served_model_name", "x"],
        ["--ec-transfer-config.ec_role", "ec_both"],
        ["--served-model", "x"],  # argparse takes the beginning of a flag for the whole
        ["--language-model"],
        ["--runner=pooling"],
    ],
)
def test_other_spellings_are_refused_as_well(args: list[str]) -> None:
    assert len(refused_flags(args)) == 1


def test_what_vllm_is_free_to_take_passes() -> None:
    free = ["--max-model-len", "4096", "--mm-processor-kwargs", '{"max_pixels": 100}', "-tp", "2", "--model-impl=auto"]
    assert refused_flags(free) == []
    assert refused_variables({"HF_HUB_OFFLINE": "1"}) == []


@pytest.mark.parametrize(
    ("encoders", "decoders", "alike"),
    [
        ([], [], True),
        (["--dtype", "half"], ["--dtype=half"], True),
        (["--dtype", "half"], [], False),
        (["--mm-processor-kwargs", '{"a": 1, "b": 2}'], ["--mm_processor_kwargs", '{"b":2,"a":1}'], True),
        (["--mm-processor-kwargs", '{"a": 1}'], ["--mm-processor-kwargs", '{"a": 2}'], False),
        (["--mm-processor-kwargs.a", "1"], ["--mm-processor-kwargs.a=1"], True),
        (['--mm-processor-kw={"max_pixels":100}'], [], False),
        (["--dtyp", "float16"], [], False),
        (["--dtyp", "float16"], ["--dtype=float16"], True),
        (["--hf_over.a", "1"], ["--hf-overrides.a", "2"], False),
        (["--max-num-seqs", "8"], [], True),
    ],
)
def test_what_shapes_an_embedding_must_be_alike(encoders: list[str], decoders: list[str], alike: bool) -> None:
    assert (unlike(encoders, decoders) == []) == alike


@pytest.mark.parametrize(
    "args",
    [
        ["--generation-config", "vllm"],
        ["--override_generation_config={}"],
        ["--override-gen", "{}"],
        ["--chat-template=t.jinja"],
        ["--no-trust-remote-code"],
        ["--no-enable-auto"],
        ["-q", "fp8"],
        ["-dc.canvas_length", "8"],
    ],
)
def test_what_decoders_decide_is_refused_elsewhere_however_it_is_written(args: list[str]) -> None:
    [message] = decoders_flags(["--enforce-eager", *args])
    assert "Set it in decoders.engine_args" in message


def test_what_is_a_matter_of_speed_or_memory_may_differ() -> None:
    speed = [
        "--max-num-seqs=2",
        "-tp",
        "2",
        "--attention-backend=x",
        "--speculative-config",
        "{}",
        "--load-format=auto",
    ]
    memory = ["--kv-cache-memory-bytes=4G", "--gpu-memory-utilization=0.5", "--watermark", "0.1", "--cpu-offload-gb=1"]
    assert decoders_flags(speed + memory) == []


@pytest.mark.parametrize("args", [["-dp", "2"], ["-sc", "{}"]])
def test_a_short_form_is_known_for_its_flag(args: list[str]) -> None:
    assert reason_against_calibration(args) is not None


@pytest.mark.engine
@pytest.mark.timeout(300)
@pytest.mark.filterwarnings("default")
def test_vllm_has_these_flags_and_none_is_taken_for_another() -> None:
    from vllm.entrypoints.launchers.cli_args import make_arg_parser
    from vllm.utils.argparse_utils import FlexibleArgumentParser

    actions = make_arg_parser(FlexibleArgumentParser())._actions
    spellings = {spelling for action in actions for spelling in action.option_strings}
    assert {*ALIKE, *DECODERS_DECIDE, *FLAGS, *RANKS, *REPLICAS_APART, *STEP_LIMITS, *UNCALIBRATED} <= spellings
    for action in actions:
        decided = not set(action.option_strings).isdisjoint(DECODERS_DECIDE)
        short = [spelling for spelling in action.option_strings if not spelling.startswith("--")]
        assert {flag for flag, _ in flags(short)} <= set(action.option_strings)
        for spelling in action.option_strings:
            assert bool(decoders_flags([spelling])) is decided, spelling
            assert bool(refused_flags([spelling])) is (spelling in FLAGS), spelling
