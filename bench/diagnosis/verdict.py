"""Split or stay, from what was found and an objective for the P99 of gaps. Pure.

Each request with pictures makes a stream's gap long once, or some few times. P99 is beyond the objective where more
than one gap in a hundred is; where the long ones are two in a hundred, it is the middle one of them. So the longest gap
beside such a request is compared with the objective as a mean, whose interval is known from few sweeps: a quantile of
so few cannot be sure. How often such requests must come for it is told beside the verdict.

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
            f"{one.why} But several at once are not, or not surely. {several.why} For so many at once the verdict "
            f"would be: {several.advice}. How often so many come together, your traffic must say.",
        )
    largest = (
        f"So it is with up to {rows[-1].at_once} requests at once. " if rows else "Several at once were not seen. "
    )
    return Verdict(Advice.STAY, f"{one.why} {largest}On average, then, there is nothing to win for the streams.")


def _decide(found: Findings, case: Beside, objective_ms: float) -> Verdict:
    now = case.picture.longest
    beside = f"Beside {named(case)} the longest gap is {ms(now)} on average"
    if now.high <= objective_ms:
        return Verdict(Advice.STAY, f"{beside}, within your objective of {objective_ms:g} ms.")
    if found.alone.high + _least_prefill(found).high > objective_ms:
        return Verdict(
            Advice.OPEN,
            f"{beside}. But the streams have gaps of {ms(found.alone)} beside nothing of ours, which may leave no room "
            f"for any prefill within your objective of {objective_ms:g} ms: by others' requests, or because a step "
            "takes so long. What your pictures add to that cannot be judged by it.",
        )
    if now.low <= objective_ms:
        return Verdict(
            Advice.OPEN, f"{beside}; whether that is beyond your objective of {objective_ms:g} ms is not certain."
        )
    return _where_beyond(found, case, objective_ms, f"{beside}, beyond your objective of {objective_ms:g} ms.")


def _where_beyond(found: Findings, case: Beside, objective_ms: float, beyond: str) -> Verdict:
    """A smaller chunk comes first where it is enough: it is a flag, and a split is work."""
    split, chunked = case.text.longest, _encode_alone(found, case)
    if chunked.high <= objective_ms:
        if split.high <= objective_ms:
            so_is = "would be enough, too"
        else:
            so_is = "would not be" if split.low > objective_ms else "may be enough, or not"
        return Verdict(
            Advice.CHUNK_FIRST,
            f"{beyond} A step with the encode and hardly any prefill would be within it: {ms(chunked)}. So a smaller "
            f"chunk can be enough. A split alone {so_is}: without the encode the gap would be {ms(split)}, which is "
            "the prefill. Diagnose again with the chunk.",
        )
    if split.high <= objective_ms:
        enough = "would not be enough" if chunked.low > objective_ms else "may be enough, too, or not"
        return Verdict(
            Advice.SPLIT,
            f"{beyond} Without the encode it is {ms(split)}, within it. A smaller prefill chunk {enough}: a step with "
            f"the encode and hardly any prefill would be {ms(chunked)}.",
        )
    if split.low > objective_ms and chunked.low > objective_ms:
        return Verdict(
            Advice.SPLIT_AND_CHUNK,
            f"{beyond} So is the prefill alone ({ms(split)}), and a step with the encode and hardly any prefill "
            f"({ms(chunked)}). Neither a split nor a smaller prefill chunk is enough without the other.",
        )
    return Verdict(
        Advice.OPEN,
        f"{beyond} Whether the gap without the encode, {ms(split)}, is within it, or else one with the encode and "
        f"hardly any prefill, {ms(chunked)}, is not certain. Make the prefill chunk smaller first, and diagnose again.",
    )


def _least_prefill(found: Findings) -> Interval:
    """What the least chunk adds to a gap."""
    tokens = CHUNK_STEP * found.piece_steps
    value, low, high = (max(0.0, each) * tokens / 1000 for each in (found.text.value, found.text.low, found.text.high))
    return Interval(value, low, high)


def _encode_alone(found: Findings, case: Beside) -> Interval:
    """The gap with the least chunk of prefill beside the encode."""
    parts = found.alone, case.cut, _least_prefill(found)
    return Interval(
        sum(each.value for each in parts), sum(each.low for each in parts), sum(each.high for each in parts)
    )


def frequency(found: Findings, traffic: Traffic | None, objective_ms: float) -> str:
    """How often such requests must come for a P99 to show it, and how often pictures come.

    It shows where one gap in 100 is long: where for each request with so many long ones, no more than 100 times as many
    gaps pass. These take the usual time each, and what the streams fall behind for the request.
    """
    long = found.long_gaps(objective_ms)
    needed_s = (100 * long * found.gap_ms + found.judged.picture.behind.value) / 1000
    gaps = f"{long:.2g} gap{'' if long == 1 else 's'}"
    said = (
        f"On average each such request made {gaps} of a stream longer than {objective_ms:g} ms. So it shows in the "
        f"streams' P99 where they come more often than about one in {needed_s:.3g} s (one gap in 100). "
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
