"""Split or stay, from what was found and an objective for gaps. Pure.

A split takes the encode off the card that generates; the prefill of the picture's tokens stays there. So the gap that
streams will have beside a picture is the one that they have beside a text of as many tokens, which was measured. A
smaller prefill chunk does the opposite: it shortens the prefill's part of a gap, and leaves the encode's. For vLLM
encodes a picture whole, in the step that has the first chunk of its tokens (v1/core/sched/scheduler.py of 0.32).
"""

from dataclasses import dataclass
from enum import StrEnum

from bench.diagnosis.findings import Beside, Findings
from bench.diagnosis.metrics import Traffic
from bench.load.slopes import Interval

SMALL_SHARE = 0.25  # of the longest gap: an encode that is surely less is not what makes it long
NEAR = 0.75  # of the objective: gaps that streams have anyway are too near it to tell what a picture adds
CHUNK_STEP = 16  # tokens: vLLM's usual block of the KV cache, and less is no chunk


class Advice(StrEnum):
    """What to do."""

    SPLIT = "SPLIT"
    SPLIT_AND_CHUNK = "SPLIT, and with a smaller prefill chunk"
    CHUNK_FIRST = "STAY, and make the prefill chunk smaller first"
    STAY = "STAY"
    OPEN = "NOT DECIDED"


@dataclass(frozen=True)
class Verdict:
    """`why` says which figures decided, or why they do not."""

    advice: Advice
    why: str


def decide(found: Findings, objective_ms: float) -> Verdict:
    """What the intervals say; where a bound of one lies on the other side of what is to be decided, nothing."""
    one = _decide(found, found.judged, objective_ms)
    if one.advice != Advice.STAY:
        return one
    rows = [row for row in found.bursts.rows if row.at_once > 1] if found.bursts else []
    beyond = next((row for row in rows if row.picture.longest.high > objective_ms), None)
    if beyond is not None:
        several = _decide(found, beyond, objective_ms)
        return Verdict(
            Advice.OPEN,
            f"{one.why} But several at once are not. {several.why} For so many at once the verdict would be: "
            f"{several.advice}. How often so many come together, your traffic must say.",
        )
    largest = (
        f"So it is with up to {rows[-1].at_once} requests at once. " if rows else "Several at once were not seen. "
    )
    return Verdict(Advice.STAY, f"{one.why} {largest}There is nothing to win for the streams.")


def _decide(found: Findings, case: Beside, objective_ms: float) -> Verdict:
    now, after = case.picture.longest, case.text.longest
    beside = f"Beside {named(case)} the longest gap is {ms(now)}"
    if now.high <= objective_ms:
        return Verdict(Advice.STAY, f"{beside}, within your objective of {objective_ms:g} ms.")
    if found.alone.high > NEAR * objective_ms:
        return Verdict(
            Advice.OPEN,
            f"{beside}. But the streams have gaps of {ms(found.alone)} beside nothing of ours, too near your objective "
            f"of {objective_ms:g} ms, or beyond it: by others' requests, or because a step takes so long. What your "
            "pictures add to that cannot be judged by it.",
        )
    if now.low <= objective_ms:
        return Verdict(
            Advice.OPEN, f"{beside}; whether that is beyond your objective of {objective_ms:g} ms is not certain."
        )
    beyond = f"{beside}, beyond your objective of {objective_ms:g} ms."
    if after.high <= objective_ms and case.cut.low > 0:
        return Verdict(Advice.SPLIT, f"{beyond} Without the encode it is {ms(after)}, within it.")
    return _where_prefill_may_be_too_long(found, case, objective_ms, beyond)


def _where_prefill_may_be_too_long(found: Findings, case: Beside, objective_ms: float, beyond: str) -> Verdict:
    after, without_chunks = case.text.longest, _encode_alone(found, case)
    if after.low > objective_ms and without_chunks.low > objective_ms:
        return Verdict(
            Advice.SPLIT_AND_CHUNK,
            f"{beyond} So is the prefill alone ({ms(after)}), and a step with the encode and hardly any prefill "
            f"({ms(without_chunks)}). Neither a split nor a smaller prefill chunk is enough without the other.",
        )
    small = case.cut.high < SMALL_SHARE * (case.picture.longest.value - found.alone.value)
    if without_chunks.high <= objective_ms and (after.low > objective_ms or small):
        return Verdict(
            Advice.CHUNK_FIRST,
            f"{beyond} Without the encode it would be {ms(after)}, which is the prefill; a step with the encode and "
            f"hardly any prefill would be within it ({ms(without_chunks)}). So a smaller chunk may do. Diagnose again "
            "after it.",
        )
    if case.cut.low <= 0:
        return Verdict(Advice.OPEN, f"{beyond} But whether the encode has a part in it worth removing is not certain.")
    return Verdict(
        Advice.OPEN,
        f"{beyond} Whether the gap without the encode, {ms(after)}, is within it, or else one with the encode and "
        f"hardly any prefill, {ms(without_chunks)}, is not certain. Make the prefill chunk smaller first, and "
        "diagnose again.",
    )


def _encode_alone(found: Findings, case: Beside) -> Interval:
    """The gap with the least chunk of prefill beside the encode."""
    least_ms = CHUNK_STEP * max(0.0, found.text.value) / 1000
    alone, cut = found.alone, case.cut
    return Interval(
        alone.value + cut.value + least_ms, alone.low + cut.low + least_ms, alone.high + cut.high + least_ms
    )


def frequency(found: Findings, traffic: Traffic | None, objective_ms: float) -> str:
    """How often such requests must come for a P99 to show it, and how often pictures come."""
    long = found.long_gaps(objective_ms)
    needed_s = 100 * long * found.gap_ms / 1000
    gaps = f"{long:.2g} gap{'' if long == 1 else 's'}"
    said = (
        f"Each such request makes {gaps} of a stream longer than {objective_ms:g} ms. So it shows in the streams' P99 "
        f"where they come more often than one in {needed_s:.2g} s (one gap in 100). "
        if long
        else ""
    )
    if traffic is None:
        return f"{said}How often your pictures come is not known without vLLM's metrics."
    seen = f"{said}In the {traffic.seconds:g} s before anything was sent,"
    if traffic.new_per_s is not None:
        seen += f" {traffic.new_per_s:.2g} new pictures came a second, of any size"
        seen += f" ({traffic.found:.0%} of all were in the processor's cache)," if traffic.found else ","
    if traffic.p99_ms is None:
        return f"{seen} and your users had {traffic.gaps} gaps, too few to tell their P99."
    side = "already beyond" if traffic.p99_ms > objective_ms else "within"
    return f"{seen} and the P99 of your users' gaps was about {traffic.p99_ms:.0f} ms: {side} the objective."


def named(case: Beside) -> str:
    """The requests, in words."""
    pictures = "a picture" if case.carries.pictures == 1 else f"{case.carries.pictures} pictures"
    size = f"{pictures} of {case.carries.size[0]} x {case.carries.size[1]}"
    return f"a request with {size}" if case.at_once == 1 else f"{case.at_once} requests at once, each with {size},"


def ms(interval: Interval) -> str:
    """In words."""
    return f"{interval.value:.0f} ms ({interval.low:.0f} to {interval.high:.0f})"
