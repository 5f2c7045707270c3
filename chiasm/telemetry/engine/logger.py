"""The statistics logger that vLLM loads of Chiasm, through the entry point group `vllm.stat_logger_plugins`.

It runs in the engine's API server, on its event loop, after each step of the engine: so it only keeps what it is given.
A request's record is kept before its answer is sent, unless more requests than `VLLM_V1_OUTPUT_PROC_CHUNK_SIZE` got a
token in that step; then it may be kept a moment later. In an engine that Chiasm did not start, or that is to remember
nothing, the logger does nothing. vLLM's statistics are no stable interface: what cannot be read of them is not kept.
"""

import logging
import time
from functools import cache
from typing import TYPE_CHECKING

from prometheus_client import Histogram
from vllm.v1.metrics import loggers

from chiasm.telemetry.engine.harmless import Harmless
from chiasm.telemetry.engine.memory import engine_memory, recording
from chiasm.telemetry.engine.vllm_stats import call_of, finished_call, phases_of, step_of, transfers_of
from chiasm.telemetry.records import Phase

if TYPE_CHECKING:
    from vllm.config import VllmConfig
    from vllm.v1.metrics.stats import FinishedRequestStats, IterationStats, MultiModalCacheStats, SchedulerStats

_PHASE_BUCKETS_S = (
    *(0.001, 0.0015, 0.002, 0.003, 0.005, 0.007),
    *(0.01, 0.015, 0.02, 0.03, 0.05, 0.07),
    *(0.1, 0.15, 0.2, 0.3, 0.5, 0.7),
    *(1.0, 1.5, 2.0, 3.0, 5.0, 7.0),
    *(10.0, 15.0, 20.0, 30.0, 60.0),
)


@cache
def _phases() -> Histogram:
    """The histogram of phases, one in a process: in the registry that vLLM's `/metrics` shows."""
    about = "Time that one complete request spent in one phase in this engine, or that one embedding was under way"
    return Histogram("chiasm_phase_seconds", about, ["phase"], buckets=_PHASE_BUCKETS_S)


def _is_no_step(record: logging.LogRecord) -> bool:
    """Whether this is not the line that vLLM logs of every step when it is told to count what is in them."""
    return not str(record.msg).startswith("%sIteration(")


class RecordsLogger(loggers.AggregateStatLoggerBase):
    """Fills the engine's memory, and measures phases."""

    def __init__(self, vllm_config: "VllmConfig", engine_indexes: list[int]) -> None:
        self._recording = recording()
        self._memory = engine_memory()
        self._harmless = Harmless("steps or requests")
        self._encodes = bool(vllm_config.is_mm_encoder_only)
        if self._recording:
            _phases()
            logging.getLogger(loggers.__name__).addFilter(_is_no_step)

    def record(
        self,
        scheduler_stats: "SchedulerStats | None",
        iteration_stats: "IterationStats | None",
        mm_cache_stats: "MultiModalCacheStats | None" = None,
        engine_idx: int = 0,
    ) -> None:
        """Keep what one step has brought; either part is absent where there is nothing to say."""
        if not self._recording:
            return
        with self._harmless:
            heard = time.time() if iteration_stats is None else iteration_stats.iteration_timestamp
            if scheduler_stats is not None:
                self._keep_step(scheduler_stats, heard)
            if iteration_stats is not None:
                for finished in iteration_stats.finished_requests:
                    self._keep_call(finished, heard)

    def _keep_step(self, stats: "SchedulerStats", heard: float) -> None:
        step = step_of(stats, heard)
        if step is not None:
            self._memory.stepped(step)
        for transfer in transfers_of(stats):
            self._memory.transferred(transfer)
            if not transfer.failure:
                _phases().labels(Phase.TRANSFER).observe(transfer.ended - transfer.began)

    def _keep_call(self, finished: "FinishedRequestStats", heard: float) -> None:
        call = finished_call(finished, heard, self._memory.answering.get(call_of(finished.request_id)))
        self._memory.call_ended(call, heard)
        for phase, seconds in phases_of(call, self._encodes):
            _phases().labels(phase).observe(seconds)

    def log_engine_initialized(self) -> None:
        """Nothing to say."""
