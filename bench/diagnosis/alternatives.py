"""What comes before a split: a smaller prefill chunk, fewer pixels, caches; and what each would bring here. Pure."""

from collections.abc import Iterator
from statistics import linear_regression

from bench.diagnosis.findings import Findings
from bench.diagnosis.plan import scaled
from bench.diagnosis.sizes import Sent

CHUNK_STEP = 16  # tokens: vLLM's usual block of the KV cache


def alternatives(found: Findings, sent: Sent, objective_ms: float) -> Iterator[str]:
    """A sentence or two for each."""
    yield f"Smaller prefill chunk (--max-num-batched-tokens). {_chunk(found, objective_ms)}"
    yield f"Fewer pixels. {_pixels(found, objective_ms)}"
    yield f"Encoder cache and prefix cache. {_caches(sent)}"


def _chunk(found: Findings, objective_ms: float) -> str:
    prefill_ms = found.judged.text.longest.value - found.gap_ms
    now = f"The prefill is {max(0.0, prefill_ms):.0f} ms of the longest gap"
    if found.text.low <= 0:
        return f"{now}; what one of its tokens costs was not told apart from nothing."
    room_ms = objective_ms - found.gap_ms
    tokens = int(1000 * room_ms / found.text.value) // CHUNK_STEP * CHUNK_STEP
    if tokens < CHUNK_STEP:
        return f"{now}; no chunk keeps to {objective_ms:g} ms, for a step without any takes {found.gap_ms:.0f} ms."
    return (
        f"{now}; at {found.text.value:.3g} ms per 1,000 tokens, {tokens:,} tokens a step keep it within "
        f"{objective_ms:g} ms. It does nothing about the encode, which is one piece, and prompts take more steps."
    )


def _pixels(found: Findings, objective_ms: float) -> str:
    tokens = [seen.rung.tokens for seen in found.rungs]
    line = linear_regression(tokens, [seen.picture.longest.value for seen in found.rungs])
    judged, longest_ms = found.judged.rung, found.judged.picture.longest.value
    if longest_ms <= objective_ms:
        return f"The largest that you send causes gaps of {longest_ms:.0f} ms, within {objective_ms:g} ms."
    if line.slope <= 0:
        return "Gaps do not grow with pictures here, so smaller ones would not shorten them."
    fitting = (objective_ms - line.intercept) / line.slope
    if fitting < min(tokens):
        smallest = found.rungs[0].picture.longest.value
        return f"Even {min(tokens):,} tokens, the fewest measured, cause gaps of {smallest:.0f} ms."
    if len({seen.rung.size for seen in found.rungs}) == 1:
        return f"This model makes {judged.tokens:,} tokens of a picture of any size; fewer in one request help."
    width, height = scaled(judged.size, fitting / judged.tokens)
    return (
        f"By the line through the sizes measured, about {fitting:,.0f} tokens ({width} x {height}) cause gaps of "
        f"{objective_ms:g} ms; {judged.tokens:,} cause {longest_ms:.0f} ms."
    )


def _caches(sent: Sent) -> str:
    what = "vLLM does not encode a picture again that it still holds"
    if not sent.pictures:
        return f"{what}; what part of yours come again, --workload FILE would tell."
    part = sent.repeated / sent.pictures
    return f"{what}: {sent.repeated} of the {sent.pictures} in your file had come before ({part:.0%})."
