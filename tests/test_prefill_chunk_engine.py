"""The prefill chunk on real engines: one is measured, another is started with what follows from that."""

import asyncio
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from engines import ARGS, START_TIMEOUT_S, metric, report

from chiasm.calibration import Step, choose, step_flags
from chiasm.calibration_cache import load
from chiasm.client import post_json
from chiasm.config import ClusterConfig, SchedulerConfig
from chiasm.engine import Engine, EngineSpec
from chiasm.models.tiny import build_tiny_model
from chiasm.nouns import Role, WorkerId
from chiasm.pools import EncodersConfig, PoolConfig
from chiasm.preflight import check_model
from chiasm.reserved import STEP_LIMITS, UNCALIBRATED
from chiasm.wire.settings import ConnectorSettings
from decoder.prefill_chunk import PrefillChunk, conditions_here
from decoder.step_times import DEADLINE_S

pytestmark = [pytest.mark.engine, pytest.mark.timeout(900)]

NEVER_S = 3600.0  # an objective that no step of a tiny model is beyond
LONG_PROMPT = list(range(32, 127)) * 10
SETTLED_S = 30.0


@contextmanager
def running_decoder(model: Path, flags: tuple[str, ...] = ()) -> Iterator[Engine]:
    settings = ConnectorSettings(worker=WorkerId("decoder-0"), model_revision="test")
    core = str(min(os.sched_getaffinity(0)))
    args = (*flags, *ARGS)
    spec = EngineSpec(
        "decoder-0", Role.DECODER, str(model), "model", "token", cpus=core, args=args, connector=settings.model_dump()
    )
    engine = Engine(spec, log=print)
    try:
        engine.wait_ready(START_TIMEOUT_S)
        yield engine
    finally:
        engine.stop()


def answer(engine: Engine) -> list[int]:
    body = {"model": "model", "prompt": LONG_PROMPT, "max_tokens": 8, "temperature": 0, "return_token_ids": True}
    choices: list[dict[str, Any]] = post_json(engine.url, "/v1/completions", body, "token")[0]["choices"]
    found: list[int] = choices[0]["token_ids"]
    return found


def test_an_engine_is_measured_and_another_keeps_to_the_chunk(tmp_path: Path) -> None:
    model = build_tiny_model(tmp_path / "model")
    facts = check_model(str(model), "model", None, list(ARGS))
    config = ClusterConfig(
        scheduler=SchedulerConfig(itl_slo_ms=1000 * NEVER_S),
        encoders=EncodersConfig(engine_args=list(ARGS)),
        decoders=PoolConfig(engine_args=list(ARGS)),
    )
    conditions = conditions_here(config, facts, "0")
    said: list[str] = []
    chunk = PrefillChunk(config, facts.max_model_len, conditions, tmp_path / "steps", said.append)
    with running_decoder(model) as engine:
        begun = time.monotonic()
        assert asyncio.run(chunk.settle(engine)), said  # nothing is slower than that objective
        assert time.monotonic() - begun < DEADLINE_S + 5
        idle(engine)
        unbounded = answer(engine)
    steps = load(tmp_path / "steps", conditions)
    alone, largest = decoding_alone(steps), steps[-1]
    assert {step.streams for step in steps if step.prompt == 0} >= {1, 2, 4}
    assert largest.prompt == chunk.tokens > 1000
    assert largest.seconds > alone

    bounded = choose(steps, alone + (largest.seconds - alone) / 4)
    assert bounded.kept
    assert bounded.tokens < len(LONG_PROMPT)
    with running_decoder(model, step_flags(bounded.tokens, bounded.streams, None)) as engine:
        assert report(engine)["limits"] == {"step_tokens": bounded.tokens + bounded.streams}
        assert answer(engine) == unbounded


@pytest.mark.filterwarnings("default")  # vLLM's, at its import
def test_vllm_knows_the_flags() -> None:
    from vllm.config import SchedulerConfig
    from vllm.entrypoints.launchers.cli_args import make_arg_parser
    from vllm.utils.argparse_utils import FlexibleArgumentParser

    parser = make_arg_parser(FlexibleArgumentParser())
    known = {name for action in parser._actions for name in action.option_strings}
    assert known >= {*STEP_LIMITS, *UNCALIBRATED}
    for tokens, streams, max_num_seqs in ((16, 1, None), (512, 32, None), (352, 2, 500)):
        args = parser.parse_args([*step_flags(tokens, streams, max_num_seqs)])
        seqs = max_num_seqs or args.max_num_seqs
        SchedulerConfig(  # refuses what does not go together
            max_num_batched_tokens=args.max_num_batched_tokens,
            max_num_seqs=seqs,
            long_prefill_token_threshold=args.long_prefill_token_threshold,
            max_model_len=4096,
            is_encoder_decoder=False,
        )


def decoding_alone(steps: tuple[Step, ...]) -> float:
    """Seconds, with as many streams as there were beside prompts."""
    return next(step.seconds for step in reversed(steps) if step.prompt == 0)


def idle(engine: Engine) -> None:
    """Return when nothing runs in the engine any more."""
    deadline = time.monotonic() + SETTLED_S
    while metric(engine, "vllm:num_requests_running"):
        assert time.monotonic() < deadline
        time.sleep(0.05)
