"""Split or stay, from what was found and an objective for gaps. Pure.

A split takes the encode off the card that generates; the prefill of the picture's tokens stays there. So the gap that
streams will have beside a picture is the one that they have beside a text of as many tokens, which was measured. A
smaller prefill chunk does the opposite: it shortens the prefill's part of a gap, and leaves the encode's.
"""

from dataclasses import dataclass
from enum import StrEnum

from bench.diagnosis.findings import Findings
from bench.load.slopes import Interval

SMALL_SHARE = 0.25  # of the stall: an encode that is surely less than that is not worth taking away


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
    now, after = found.judged.picture.longest, found.judged.text.longest
    if now.high <= objective_ms:
        return Verdict(
            Advice.STAY,
            f"Beside the largest picture the longest gap is {ms(now)}, which is within your objective of "
            f"{objective_ms:g} ms. There is nothing to win for the streams.",
        )
    if now.low <= objective_ms:
        return Verdict(
            Advice.OPEN,
            f"Whether the longest gap, {ms(now)}, is beyond your objective of {objective_ms:g} ms is not certain.",
        )
    beyond = f"Beside the largest picture the longest gap is {ms(now)}, beyond your objective of {objective_ms:g} ms."
    if found.share is not None and found.share.high < SMALL_SHARE:
        return Verdict(
            Advice.CHUNK_FIRST,
            f"{beyond} But the encode is surely less than a quarter of what streams lose ({percent(found.share)}); the "
            "rest is the prefill of the picture's tokens, which a split leaves where it is.",
        )
    if found.share is None or found.encode.low <= 0 or found.cut.low <= 0:
        return Verdict(Advice.OPEN, f"{beyond} But whether the encode has a part in it worth removing is not certain.")
    if after.high <= objective_ms:
        return Verdict(
            Advice.SPLIT,
            f"{beyond} The encode is {percent(found.share)} of what streams lose, and without it the longest gap is "
            f"{ms(after)}, within the objective.",
        )
    if after.low <= objective_ms:
        return Verdict(
            Advice.OPEN, f"{beyond} Whether the gap without the encode, {ms(after)}, is within is not certain."
        )
    return _where_prefill_is_too_long(found, objective_ms, f"{beyond} So is the prefill alone ({ms(after)}).")


def _where_prefill_is_too_long(found: Findings, objective_ms: float, beyond: str) -> Verdict:
    encode_alone = Interval(*(found.gap_ms + part for part in (found.cut.value, found.cut.low, found.cut.high)))
    if encode_alone.low > objective_ms:
        return Verdict(
            Advice.SPLIT_AND_CHUNK,
            f"{beyond} A step with the encode and no prefill at all would be as well ({ms(encode_alone)}). So neither "
            "a split nor a smaller prefill chunk is enough without the other.",
        )
    if encode_alone.high <= objective_ms:
        return Verdict(
            Advice.CHUNK_FIRST,
            f"{beyond} A step with the encode and hardly any prefill would be within it ({ms(encode_alone)}), so a "
            "smaller chunk may do. Diagnose again after it.",
        )
    return Verdict(
        Advice.OPEN,
        f"{beyond} Whether a step with the encode and no prefill would be, too ({ms(encode_alone)}), is not certain. "
        "Make the prefill chunk smaller first, and diagnose again.",
    )


def ms(interval: Interval) -> str:
    """In words."""
    return f"{interval.value:.0f} ms ({interval.low:.0f} to {interval.high:.0f})"


def percent(interval: Interval) -> str:
    """In words."""
    return f"{interval.value:.0%} ({interval.low:.0%} to {interval.high:.0%})"
