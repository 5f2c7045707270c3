"""How many prompt tokens a decoder may compute in one step, so that the streams beside them keep their pace.

A prompt is computed in chunks, each in one step together with a token of every running stream, so a chunk is what such
a stream waits for. How long a step takes has been measured (`decoder.step_times`); here is what follows from it. Pure.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Annotated

from msgspec import Meta, Struct

from chiasm.capacity import DEFAULT_SLOTS

FLOOR = 16
"""The least chunk in tokens, and what chunks are a multiple of: with fewer, prompts take for ever."""

LEAST_STREAMS = 8  # that an engine takes at once, whatever becomes of the objective: the others wait in a queue

GROWTH = 4  # each size that is measured is so many times the one before: in between, a step's time is about a line


class Step(Struct, frozen=True):
    """How long one kind of step takes."""

    streams: Annotated[int, Meta(ge=1, le=65_536)]  # that get a token in it
    prompt: Annotated[int, Meta(ge=0, le=1 << 24)]  # tokens of a prompt that are computed beside them
    seconds: Annotated[float, Meta(gt=0, le=86_400)]


@dataclass(frozen=True)
class Chunk:
    """The prompt tokens that a step may have."""

    tokens: int
    streams: int  # beside so many
    step_s: float  # then a step takes so long
    kept: bool  # and that is within the objective


def prompt_sizes(most: int) -> Iterator[int]:
    """Which prompts to measure steps with, in tokens, the least first; the last one is `most`."""
    size = FLOOR
    while size < most:
        yield size
        size *= GROWTH
    yield most


def choose(steps: Sequence[Step], objective_s: float) -> Chunk:
    """The largest chunk that was measured, or lies between two that were, whose step keeps within the objective.

    Of the steps with most streams; `FLOOR`, if even a step with that takes longer.

    Raises:
        ValueError: the steps do not tell: none had a prompt, and those without are quick enough.
    """
    streams = max((step.streams for step in steps), default=0)
    points = sorted((step.prompt, step.seconds) for step in steps if step.streams == streams)
    if not points or (points[-1][0] == 0 and points[-1][1] <= objective_s):
        raise ValueError("no step with a prompt was measured")
    line = _undisturbed(points)
    most, slowest = line[-1]
    tokens = most if slowest <= objective_s else max(FLOOR, _crossing(line, objective_s) // FLOOR * FLOOR)
    step_s = _at(line, tokens)
    return Chunk(tokens, streams, step_s, step_s <= objective_s)


def _undisturbed(points: Sequence[tuple[int, float]]) -> list[tuple[int, float]]:
    """No step is quicker for having more to do: what took longer than a larger one was held up by something else."""
    line: list[tuple[int, float]] = []
    for prompt, seconds in reversed(points):
        line.append((prompt, min(seconds, line[-1][1]) if line else seconds))
    return line[::-1]


def _crossing(line: Sequence[tuple[int, float]], objective_s: float) -> int:
    """The most prompt tokens within the objective, 0 if none are, where the last point is beyond it."""
    for (less, quicker), (more, slower) in pairwise(line):
        if quicker <= objective_s < slower:
            return less + int((more - less) * (objective_s - quicker) / (slower - quicker))
    return 0


def _at(line: Sequence[tuple[int, float]], prompt: int) -> float:
    """Seconds of a step with so many prompt tokens; with more than were measured, what the largest took."""
    for (less, quicker), (more, slower) in pairwise(line):
        if less <= prompt <= more:
            return quicker + (slower - quicker) * (prompt - less) / (more - less)
    return line[-1][1]


def step_flags(tokens: int, streams: int, max_num_seqs: int | None) -> tuple[str, ...]:
    """What bounds vLLM's steps to a chunk of `tokens` beside `streams`.

    `--max-num-batched-tokens` bounds a step whatever is in it: streams come first, prompts share the rest. So that the
    rest is never less than `FLOOR`, there are fewer streams than that; or, where the operator has set `max_num_seqs`,
    a step may be larger, and the threshold alone bounds what each prompt has of it. For a prompt beside which nothing
    runs the threshold does not count.
    """
    whole = max(tokens + streams, (max_num_seqs or LEAST_STREAMS) + FLOOR)
    flags = (f"--max-num-batched-tokens={whole}", f"--long-prefill-token-threshold={tokens}")
    if max_num_seqs is not None:
        return flags
    return (*flags, f"--max-num-seqs={min(DEFAULT_SLOTS, whole - FLOOR)}")
