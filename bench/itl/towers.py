"""`chiasm bench itl --towers`: the tail of bystanders' latency, unsplit to split, over models with other vision towers.

For each model both sides get the same bursts of pictures in turn, and what the ratio should be is computed from its
phases, each of which is measured where the others do not come into it, in every block anew:

    predicted = (encode + chunk of mono) / chunk of split

    encode  of one picture by the monolithic engine: the time to first token of a picture alone, less that of as many
            tokens of text alone, medians of as many as a burst has. Preparing the picture, in vLLM's front-end, is a
            part of it that stalls nobody: some hundredths of it, which make the prediction higher
    chunk   a step with a large chunk of a prompt in it: of a stream beside a text of as many tokens the longest gap, in
            the mean over so many texts, one at a time, and over streams. Several at once would fill what a step has
            room for beside a chunk, as pictures do not, which come one by one from their encodes

An encode is a part of one step, in front of a chunk of its prompt, and whoever is beside waits for both. The split's
bystanders wait for the chunk alone. Measured is, during a burst of so many pictures, the mean of as many longest
gaps of a stream: each picture's one. So no share has to be chosen, and all of these are means or medians over as many.

A chunk is bounded by the objective that it is calibrated to, and an encode by nothing: larger pictures make longer
ones. So the dearest tower is measured with larger ones, too.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, median
from typing import Any

from bench.itl.fits import QUOTED_FROM
from bench.itl.plan import Drive, Kind, Load, Plan, Slot
from bench.itl.slots import Seen, Unmeasurable
from bench.itl.tails import stalls_ms
from bench.load.slopes import LEAST, mean_interval
from bench.topologies.arrangement import Arrangement
from bench.towers import VARIANTS, Variant

MONO, SPLIT = str(Arrangement.MONO_CALIBRATED), str(Arrangement.SPLIT)
STREAMS = 4
CELL = 28  # pixels a side of an image token
USUAL = Load(1, 448)  # 256 tokens
TIMES = ("mono_ms", "split_ms", "encode_ms", "mono_chunk_ms", "split_chunk_ms", "mono_ttft_ms", "split_ttft_ms")
"""Of a block."""


@dataclass(frozen=True)
class Case:
    """A model, the pictures that it gets, and how many of them are a burst."""

    variant: Variant
    picture: Load = USUAL
    at_once: int = 4

    @property
    def tokens(self) -> int:
        """Of a picture."""
        return (self.picture.side // CELL) ** 2

    @property
    def name(self) -> str:
        """No other case's."""
        return self.variant.name if self.picture == USUAL else f"{self.variant.name}_{self.tokens}"

    def plan(self, quick: bool) -> Plan:
        """A burst beside streams, as many texts one at a time beside streams, and pictures and texts beside nothing."""
        size = 2 if quick else self.at_once
        picture, text = Slot(Kind.LIVE, self.picture), Slot(Kind.TEXT, self.picture)
        burst = Drive("burst", STREAMS, (Slot(Kind.LIVE, self.picture, size),), 32)
        chunks = Drive("chunks", STREAMS, size * (text,), 1)
        alone = Drive("alone", 0, size * (picture, text), 1)
        return Plan(1 if quick else 5, (burst, chunks, alone))


CASES = (*(Case(variant) for variant in VARIANTS), Case(VARIANTS[-1], Load(1, 672), at_once=2))


@dataclass(frozen=True)
class Block:
    """What one block tells. Times in ms."""

    mono_ms: float
    split_ms: float
    encode_ms: float
    mono_chunk_ms: float
    split_chunk_ms: float
    mono_ttft_ms: float  # of a picture alone, the median
    split_ttft_ms: float

    @property
    def measured(self) -> float:
        """How many times longer the monolithic engine's stalls are."""
        return self.mono_ms / self.split_ms

    @property
    def predicted(self) -> float:
        """See above."""
        return (self.encode_ms + self.mono_chunk_ms) / self.split_chunk_ms


@dataclass(frozen=True)
class Compared:
    """One case."""

    case: Case
    blocks: Sequence[Block]
    lost: int  # blocks in which something failed

    @property
    def row(self) -> Mapping[str, Any]:
        """For the report: times are medians over blocks, ratios geometric means."""
        times = {name: round(median(getattr(block, name) for block in self.blocks), 1) for name in TIMES}
        return {
            "what": "tower",
            "variant": self.case.name,
            "like": self.case.variant.like,
            "tokens": self.case.tokens,
            "at_once": self.case.at_once,
            "encode_to_prefill_flops": round(self.case.variant.ratio(self.case.tokens), 3),
            "blocks": len(self.blocks),
            "lost": self.lost,
            **times,
            "encode_share": round(times["encode_ms"] / (times["encode_ms"] + times["mono_chunk_ms"]), 3),
            **_told("measured", [block.measured for block in self.blocks]),
            **_told("predicted", [block.predicted for block in self.blocks]),
            **_told("measured_vs_predicted", [block.measured / block.predicted for block in self.blocks]),
        }


def compared(case: Case, slots: Sequence[Seen]) -> Compared:
    """What was found of one case.

    Raises:
        Unmeasurable: in no block both sides have all that is needed.
    """
    numbers = dict.fromkeys(one.block for one in slots)
    found = [_block([one for one in slots if one.block == number]) for number in numbers]
    blocks = [block for block in found if block is not None]
    if not blocks:
        fault = next((one.fault for one in slots if one.fault), "nothing came")
        raise Unmeasurable(
            f"Of the model with the {case.variant.name} tower no block is whole on both sides, with pictures of "
            f"{case.tokens} tokens: {fault}"
        )
    return Compared(case, blocks, len(found) - len(blocks))


def headline(found: Sequence[Compared]) -> dict[str, float]:
    """The ratio in each case, and how it stands to what was predicted, where there are enough blocks."""
    told = {one.case.name: one.row for one in found if len(one.blocks) >= QUOTED_FROM}
    figures = {f"bystander_tail_itl_mono_vs_split_{name}": row["measured"] for name, row in told.items()}
    return figures | {f"measured_vs_predicted_{name}": row["measured_vs_predicted"] for name, row in told.items()}


def _block(slots: Sequence[Seen]) -> Block | None:
    """None if something of it failed."""

    def of(side: str, drive: str, kind: Kind) -> list[Seen]:
        return [one for one in slots if (one.side, one.drive.name, one.slot.kind) == (side, drive, kind)]

    bursts = _pairs_ms(of(MONO, "burst", Kind.LIVE), of(SPLIT, "burst", Kind.LIVE))
    chunks = _pairs_ms(of(MONO, "chunks", Kind.TEXT), of(SPLIT, "chunks", Kind.TEXT))
    alone = {(side, kind): of(side, "alone", kind) for side in (MONO, SPLIT) for kind in (Kind.LIVE, Kind.TEXT)}
    if bursts is None or chunks is None or any(one.fault for found in alone.values() for one in found):
        return None
    ttfts_ms = {key: [1000 * one.carriers[0].ttft_s for one in found] for key, found in alone.items()}
    if not all(ttfts_ms.values()):
        return None
    return Block(
        *bursts,
        median(ttfts_ms[MONO, Kind.LIVE]) - median(ttfts_ms[MONO, Kind.TEXT]),
        *chunks,
        mono_ttft_ms=median(ttfts_ms[MONO, Kind.LIVE]),
        split_ttft_ms=median(ttfts_ms[SPLIT, Kind.LIVE]),
    )


def _pairs_ms(mono: Sequence[Seen], split: Sequence[Seen]) -> tuple[float, float] | None:
    """Stalls beside the same slots on both sides, in the mean over slots; None if one is missing or failed."""
    found = [stalls_ms(*pair) for pair in zip(mono, split, strict=False)]
    stalls = [pair for pair in found if pair is not None]
    if not stalls or len(stalls) < max(len(mono), len(split)):
        return None
    return fmean(one for one, _ in stalls), fmean(other for _, other in stalls)


def _told(name: str, ratios: Sequence[float]) -> dict[str, float]:
    """Their geometric mean, and its interval where there are enough."""
    logs = [math.log(ratio) for ratio in ratios]
    found = mean_interval(logs) if len(logs) >= LEAST else None
    bounds = {f"{name}_low": math.exp(found.low), f"{name}_high": math.exp(found.high)} if found else {}
    return {key: round(value, 3) for key, value in {name: math.exp(fmean(logs)), **bounds}.items()}
