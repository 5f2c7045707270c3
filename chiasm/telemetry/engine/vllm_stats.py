"""What vLLM's statistics say of requests, steps and transfers, as records; and how long each phase took.

vLLM hands its statistics to plugins as dataclasses, which are read here by name: this module imports no vLLM. Its
engine core times a request on the machine's monotonic clock, and tells only how long each stage was: so the stages are
counted back from when the API server heard of the end, and are as late as that was, some tenths of a millisecond.
"""

from collections.abc import Iterator
from typing import Any

import msgspec

from chiasm.telemetry.engine.memory import Answering
from chiasm.telemetry.records import EngineCall, Phase, Step, Transfer

TRANSFERS = "transfers"
"""Where a decoder's connector puts its transfers in the dictionary that vLLM carries for it."""

_UNFINISHED = ("abort", "error")  # vLLM's words for a request that ended before it was complete


def call_of(vllm_id: str) -> str:
    """The `X-Request-Id` that is in vLLM's own name of a request, which also says its route and the prompt's number."""
    if vllm_id.startswith("chatcmpl-"):
        return vllm_id.removeprefix("chatcmpl-")
    if vllm_id.startswith("cmpl-"):
        return vllm_id.removeprefix("cmpl-").rpartition("-")[0]
    return vllm_id


def finished_call(finished: Any, heard: float, answering: Answering | None) -> EngineCall:
    """The record of a `FinishedRequestStats` that the API server heard of at `heard`.

    `answering` is what is known of its HTTP request. Without, it arrived when its body had been parsed, and was queued
    when the engine core took it in, which is after the step that ran just then.
    """
    finish = str(finished.finish_reason)
    generated = finished.num_generation_tokens > 0 or finish not in _UNFINISHED
    first_token = heard - finished.decode_time
    # What was never scheduled was so at zero on vLLM's clock: before it was queued, which is put in order below.
    scheduled = first_token - finished.prefill_time
    times = _in_order(
        answering,
        arrived=heard - finished.e2e_latency,
        queued=scheduled - finished.queued_time,
        scheduled=scheduled,
        first_token=first_token if generated else None,
        last_token=heard if generated else None,
    )
    return EngineCall(
        call_of(finished.request_id),
        *times,
        prompt_tokens=finished.num_prompt_tokens,
        cached_tokens=finished.num_cached_tokens,
        output_tokens=finished.num_generation_tokens,
        preemptions=finished.num_preemptions,
        finish=finish,
    )


def aborted_call(state: Any, answering: Answering, monotonic_origin: float) -> EngineCall:
    """The record of a `RequestState` that is about to be aborted, because its client has left.

    `monotonic_origin` is when the monotonic clock was zero, in unix seconds. The API server learns of what the engine
    core did with the first token, so a request that has none yet seems to wait still.
    """
    stats = state.stats

    def moment(timestamp: float) -> float | None:
        return monotonic_origin + timestamp if timestamp > 0 else None

    times = _in_order(
        answering,
        arrived=stats.arrival_time,
        queued=moment(stats.queued_ts),
        scheduled=moment(stats.scheduled_ts),
        first_token=moment(stats.first_token_ts),
        last_token=moment(stats.last_token_ts),
    )
    return EngineCall(
        call_of(state.external_req_id),
        *times,
        prompt_tokens=state.prompt_len,
        cached_tokens=state.num_cached_tokens,
        output_tokens=stats.num_generation_tokens,
        preemptions=stats.num_preemptions,
        finish="abort",
    )


def _in_order(
    answering: Answering | None,
    *,
    arrived: float,
    queued: float | None,
    scheduled: float | None,
    first_token: float | None,
    last_token: float | None,
) -> tuple[float, float, float, float, float]:
    """A time that was never reached is that of the stage before, and so is one that comes before that stage."""

    def after(stage_before: float, time: float | None) -> float:
        return stage_before if time is None else max(stage_before, time)

    if answering is not None:
        arrived = answering.arrived
        queued = answering.prepared or queued
    queued = after(arrived, queued)
    scheduled = after(queued, scheduled)
    first_token = after(scheduled, first_token)
    return arrived, queued, scheduled, first_token, after(first_token, last_token)


def step_of(stats: Any, ended: float) -> Step | None:
    """The record of the step in a `SchedulerStats`; None if it computed nothing."""
    details = stats.iteration_details
    if details is None or details.is_dummy:
        return None
    return Step(
        ended=ended,
        seconds=details.elapsed_ms / 1000,
        prompt_requests=details.num_ctx_requests,
        prompt_tokens=details.num_ctx_tokens,
        streams=details.num_generation_requests,
        stream_tokens=details.num_generation_tokens,
        images=details.num_encoder_inputs,
        image_tokens=details.num_encoder_output_tokens,
        running=stats.num_running_reqs,
        waiting=stats.num_waiting_reqs + stats.num_skipped_waiting_reqs,
        kv_part=stats.kv_cache_usage,
    )


def transfers_of(stats: Any) -> list[Transfer]:
    """The transfers in a `SchedulerStats`."""
    return msgspec.convert((stats.ec_connector_stats or {}).get(TRANSFERS, []), list[Transfer])


def phases_of(call: EngineCall, encodes: bool) -> Iterator[tuple[Phase, float]]:
    """How long each phase of a complete call took in its engine; nothing of an incomplete one."""
    if call.finish in _UNFINISHED:
        return
    yield Phase.PREPROCESS, call.queued - call.arrived
    yield Phase.ENCODE if encodes else Phase.PREFILL, call.first_token - call.scheduled
    if call.output_tokens > 1:
        yield Phase.DECODE, call.last_token - call.first_token
