"""What comes before a split: a smaller prefill chunk, fewer pixels, caches; and what each would bring here. Pure."""

import math
from collections.abc import Iterator
from statistics import linear_regression

from bench.diagnosis.findings import Findings
from bench.diagnosis.plan import scaled
from bench.diagnosis.sizes import Sent
from bench.diagnosis.verdict import CHUNK_STEP, ms

CACHES = 2048, 8192  # tokens: usual defaults of --max-num-batched-tokens, by which vLLM sizes its encoder cache


def alternatives(found: Findings, sent: Sent, objective_ms: float) -> Iterator[str]:
    """A sentence or several for each that can help."""
    prefill_may_be_too_long = found.judged.text.longest.high > objective_ms
    too_long = found.judged.picture.longest.high > objective_ms
    if prefill_may_be_too_long or (too_long and chunk(found, objective_ms, split=False)):
        yield f"Smaller prefill chunk. {_chunk(found, objective_ms)}"
    yield f"Fewer pixels (--mm-processor-kwargs, or before sending). {_pixels(found, objective_ms)}"
    yield f"Encoder cache and prefix cache. {_caches(found, sent)}"


def chunk(found: Findings, objective_ms: float, split: bool) -> int | None:
    """The most tokens that one step may surely prefill, beside the encode of the judged request, or after a split
    without it.

    0: not even a block. None: what a token costs was not told apart from nothing.
    """
    if found.text.low <= 0:
        return None
    encode_ms = 0.0 if split else max(0.0, found.judged.cut.high)
    room_ms = objective_ms - found.alone.high - encode_ms
    return max(0, int(1000 * room_ms / found.text.high / found.piece_steps) // CHUNK_STEP * CHUNK_STEP)


def _chunk(found: Findings, objective_ms: float) -> str:
    now = f"The prefill is {max(0.0, found.judged.text.longest.value - found.alone.value):.0f} ms of the longest gap"
    whole, split = (chunk(found, objective_ms, split=each) for each in (False, True))
    if whole is None or split is None:
        return f"{now}; what one of its tokens costs was not told apart from nothing."
    if not split:
        return f"{now}; no chunk keeps to {objective_ms:g} ms, for streams have gaps of {ms(found.alone)} anyway."
    each = f"at {found.text.value:.3g} ms per 1,000 tokens"
    if whole:
        fits = f"{each}, {whole:,} tokens a step beside the encode keep to {objective_ms:g} ms{_steps(found, whole)}"
    else:
        fits = (
            f"beside the encode no chunk keeps to {objective_ms:g} ms. For a split: {each}, {split:,} tokens a step do"
            f"{_steps(found, split)}"
        )
    return (
        f"{now}; {fits} Try --long-prefill-token-threshold first: it bounds each prompt's part of a step. "
        "--max-num-batched-tokens bounds the step, for all prompts in it; but it also sets the encoder's budget and "
        "cache, must not be below --max-num-seqs, nor below a picture's tokens where these see each other both ways "
        "(Gemma 3 on CUDA)."
    )


def _steps(found: Findings, tokens: int) -> str:
    steps = math.ceil(found.judged.carries.tokens / tokens)
    return f"; the judged request then takes {steps} steps, each at least {found.gap_ms:.3g} ms."


def _pixels(found: Findings, objective_ms: float) -> str:
    judged, longest_ms = found.judged.carries, found.judged.picture.longest.value
    if longest_ms <= objective_ms:
        return f"The largest that you send causes gaps of {longest_ms:.0f} ms on average, within {objective_ms:g} ms."
    if len({seen.carries.size for seen in found.rungs}) == 1:
        tokens = judged.tokens // judged.pictures
        return f"This model makes {tokens:,} tokens of a picture of any size; fewer in one request help."
    tokens_of = [seen.carries.tokens for seen in found.rungs]
    line = linear_regression(tokens_of, [seen.picture.longest.value for seen in found.rungs])
    if line.slope <= 0:
        return "Gaps do not grow with pictures here, so smaller ones would not shorten them."
    fitting = (objective_ms - line.intercept) / line.slope
    if fitting < min(tokens_of):
        smallest = found.rungs[0].picture.longest.value
        return f"Even {min(tokens_of):,} tokens, the fewest measured, cause gaps of {smallest:.0f} ms."
    width, height = scaled(judged.size, fitting / judged.tokens)
    return (
        f"By the line through the sizes measured, about {fitting:,.0f} tokens ({width} x {height}) cause gaps of "
        f"{objective_ms:g} ms; {judged.tokens:,} cause {longest_ms:.0f} ms."
    )


def _caches(found: Findings, sent: Sent) -> str:
    what = "vLLM does not encode a picture again that it still holds"
    if not sent.pictures:
        return f"{what}; what part of yours come again, --workload FILE would tell."
    if not sent.again:
        return f"{what}; none of the {sent.pictures} in your file comes again."
    tokens = found.judged.carries.tokens // found.judged.carries.pictures
    held = [(room, sum(since < room // tokens for since in sent.again)) for room in CACHES]
    told = " and ".join(f"{count} in one of {room:,} tokens" for room, count in held)
    return (
        f"{what}: {len(sent.again)} of the {sent.pictures} in your file had come before "
        f"({len(sent.again) / sent.pictures:.0%}). If all were of the largest size, {told} would still be in an "
        "encoder cache (it has as many tokens as --max-num-batched-tokens). Behind the same text, the prefix cache "
        "holds them longer."
    )
