"""What one engine remembers, as slices."""

from collections.abc import Iterator
from itertools import pairwise

from chiasm.nouns import Role
from chiasm.telemetry.live.step_times import timed_steps
from chiasm.telemetry.perfetto.events import Slice, values
from chiasm.telemetry.records import EngineCall, EngineRecords, Pause, Phase, Transfer


def step_slices(records: EngineRecords) -> Iterator[Slice]:
    """The steps, each called after what was computed in it.

    Of one whose beginning is not known, what is shown is how long its engine waited for the result at the end of it.
    """
    began = {timed.step: timed.began for timed in timed_steps(records)}
    for step in records.steps:
        parts = {Phase.ENCODE: step.images, Phase.PREFILL: step.prompt_requests, Phase.DECODE: step.streams}
        name = " + ".join(phase for phase, count in parts.items() if count)
        numbers = values(
            prompts=step.prompt_requests,
            prompt_tokens=step.prompt_tokens,
            streams=step.streams,
            stream_tokens=step.stream_tokens,
            images=step.images,
            image_tokens=step.image_tokens,
            running=step.running,
            waiting=step.waiting,
            kv_percent=percent(step.kv_part),
            note="" if step in began else "only the wait for its result: when it began is not known",
        )
        yield Slice(name or "nothing", began.get(step, step.ended - step.seconds), step.ended, numbers)


def pause_slices(pause: Pause, until: float) -> Iterator[Slice]:
    """How long it took to stand still, and how long it stood; `until` then, if it still does."""
    if pause.wanted < pause.began:
        yield Slice("pausing", pause.wanted, pause.began)
    yield Slice("paused", pause.began, pause.ended or until)


def call_slices(call: EngineCall, role: Role) -> Iterator[Slice]:
    """The phases of a call, in order, but those that took no time."""
    encodes = role is Role.ENCODER
    about = values(request=call.call, finish=call.finish, preempted=call.preemptions, cached_tokens=call.cached_tokens)
    moments = (call.arrived, call.queued, call.scheduled, call.first_token, call.last_token)
    phases = (
        (Phase.PREPROCESS, 0),
        (Phase.ENCODE_QUEUE if encodes else Phase.DECODE_QUEUE, 0),
        (Phase.ENCODE if encodes else Phase.PREFILL, call.prompt_tokens - call.cached_tokens),
        (Phase.DECODE, call.output_tokens),
    )
    for (phase, tokens), (began, ended) in zip(phases, pairwise(moments), strict=True):
        if began < ended:
            yield Slice(phase, began, ended, {**about, **values(tokens=tokens)})


def transfer_slice(transfer: Transfer) -> Slice:
    """An embedding that came, or did not."""
    return Slice(
        Phase.TRANSFER,
        transfer.began,
        transfer.ended,
        values(key=transfer.key, bytes=transfer.nbytes, failure=transfer.failure),
    )


def percent(part: float) -> float:
    """A part of 1, rounded as one reads it."""
    return round(100 * part, 2)
