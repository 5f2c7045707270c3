"""What each step of an engine had to compute and to move. Pure.

A `Step` counts tokens and does not tell how long the contexts were that these met. Those are taken from the calls that
the step was part of. Between its first and its last token, a call's tokens are taken to have come evenly; between its
first step and its first token, its prompt to have been computed evenly. So the sum over all steps of a call is right,
and a single step is wrong by how unevenly they came: by the length of the answer at most. A call is only known once it
has ended. Streams of others are taken to be like those that are known; where none is, each to have its share of the KV
cache that is taken, which is whole blocks (`Machine.kv_block_tokens`), and prompts' share as well.

Images count by their tokens alone: those of one step are taken to be equally large, and as near to squares as that
allows. If they differ, attention has more FLOPs than that: at most as many times as there are images in the step.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from statistics import fmean

from chiasm.telemetry.live.machine import Machine
from chiasm.telemetry.live.step_times import TimedStep
from chiasm.telemetry.records import EngineCall, Phase, Step
from chiasm.telemetry.signature.shapes import Language, Tower, language_of, tower_of
from chiasm.telemetry.signature.work import NOTHING, Grid, Work, encode_work, language_work, likely_grid


@dataclass(frozen=True)
class StepWork:
    """Of one step."""

    phases: tuple[Phase, ...]  # what was in it: encode, prefill, decode, or several of them
    work: Work  # of all of it; weights are read once
    context: float  # tokens that one of its streams met, on average; 0 without streams
    known: int  # of its streams, those whose calls have told


def with_calls(steps: Iterable[TimedStep], calls: Iterable[EngineCall]) -> Iterator[tuple[TimedStep, list[EngineCall]]]:
    """Each step with the calls that were part of it; `steps` are in their order."""
    to_come = sorted(calls, key=lambda call: call.scheduled, reverse=True)
    running: list[EngineCall] = []
    for timed in steps:
        running = [call for call in running if call.last_token > timed.middle]
        while to_come and to_come[-1].scheduled <= timed.middle:
            if (call := to_come.pop()).last_token > timed.middle:
                running.append(call)
        yield timed, running


class Model:
    """The model that an engine runs, as far as it holds it."""

    def __init__(self, machine: Machine) -> None:
        """Read its shapes.

        Raises:
            ValueError: FLOPs and bytes are not known of this model, or of the way its weights are stored.
        """
        if machine.quantization is not None:
            raise ValueError(f"FLOPs and bytes are not known of weights that are quantized ({machine.quantization})")
        self._machine = machine
        self._tower: Tower | None = tower_of(machine.config) if machine.tower else None
        self._language: Language | None = language_of(machine.config) if machine.language else None

    def work_of(self, timed: TimedStep, calls: Sequence[EngineCall]) -> StepWork | None:
        """What the step had to do, of which `calls` were part; None if this engine holds no weights for it.

        An encoder's step counts prompt tokens too, which it does not compute; a decoder's counts images, which it
        fetches.
        """
        step, parts, phases = timed.step, [], []
        if self._tower is not None and step.images:
            phases.append(Phase.ENCODE)
            parts.append(encode_work(self._tower, _grids(self._tower, step), self._machine.value_bytes))
        contexts = _contexts(timed, calls)
        context = (fmean(contexts) if contexts else self._share_of_cache(step)) if step.streams else 0.0
        if self._language is not None and (step.prompt_tokens or step.streams):
            phases += [Phase.PREFILL] * bool(step.prompt_tokens) + [Phase.DECODE] * bool(step.streams)
            parts.append(self._language_work(self._language, timed, calls, context))
        if not parts:
            return None
        return StepWork(tuple(phases), sum(parts, NOTHING), context, min(len(contexts), step.streams))

    def _share_of_cache(self, step: Step) -> float:
        machine = self._machine
        return step.kv_part * machine.kv_blocks * machine.kv_block_tokens / max(step.running, step.streams)

    def _language_work(self, language: Language, timed: TimedStep, calls: Sequence[EngineCall], context: float) -> Work:
        """Every prompt, or chunk of one, meets the vocabulary with its last token, as every token of a stream does."""
        step = timed.step
        before, met = _prompts(timed, calls)
        pairs = step.prompt_tokens * met + step.stream_tokens * context
        read = step.prompt_requests * before + step.streams * context  # what is written is the last part of a context
        return language_work(
            language,
            tokens=step.prompt_tokens + step.stream_tokens,
            answers=step.prompt_requests + step.stream_tokens,
            pairs=round(pairs),
            kv_tokens=round(read) + step.prompt_tokens,
            value_bytes=self._machine.value_bytes,
            kv_value_bytes=self._machine.kv_value_bytes,
        )


def _grids(tower: Tower, step: Step) -> list[Grid]:
    each, more = divmod(step.image_tokens, step.images)
    return [likely_grid(tower, each + (place < more)) for place in range(step.images)]


def _contexts(timed: TimedStep, calls: Sequence[EngineCall]) -> list[float]:
    """Tokens that the streams' tokens of the step met, themselves included; of those streams that are known."""
    ended, middle = timed.step.ended, timed.middle
    return [
        call.prompt_tokens + (call.output_tokens - 1) * _part(call.first_token, ended, call.last_token)
        for call in calls
        if call.first_token <= middle < call.last_token
    ]


def _prompts(timed: TimedStep, calls: Sequence[EngineCall]) -> tuple[float, float]:
    """Tokens that the prompts' chunks of the step found in the KV cache, and that their tokens met; on average.

    Where no call is known, they are taken to be whole prompts.
    """
    step = timed.step
    if not step.prompt_requests:
        return 0.0, 0.0
    found, computed, met = [], 0.0, 0.0
    for call in calls:
        if call.scheduled <= timed.middle < call.first_token:
            to_compute = call.prompt_tokens - call.cached_tokens
            parts = (_part(call.scheduled, at, call.first_token) for at in (timed.began, step.ended))
            before, after = (call.cached_tokens + to_compute * part for part in parts)
            found.append(before)
            computed += after - before
            met += (after - before) * (before + after + 1) / 2
    if not computed:
        return 0.0, (step.prompt_tokens / step.prompt_requests + 1) / 2
    return fmean(found), met / computed


def _part(start: float, at: float, end: float) -> float:
    """How much of the time from `start` to `end` has passed, 0 to 1."""
    return min(1.0, max(0.0, (at - start) / (end - start)))
