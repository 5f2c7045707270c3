"""`chiasm bench itl --towers`: the tail of bystanders' latency, unsplit to split, over models with other vision towers.

For each model both sides get the same bursts in turn, of pictures and of as much text, and what the ratio should be is
computed from its phases, each of which is measured where the others do not come into it, in every block anew:

    predicted = (encode + chunk of mono) / chunk of split

    encode  of one picture by the monolithic engine: the time to first token of a picture alone, less that of as many
            tokens of text alone, medians of as many as a burst has. Preparing the picture, in vLLM's front-end, is a
            part of it that stalls nobody: some hundredths of it, which make the prediction higher
    chunk   a step with a large chunk of a prompt in it, beside all streams: of a stream during a burst of text the mean
            of as many longest gaps as there are texts, in the mean over streams

An encode is a part of one step, in front of a chunk of its prompt, and whoever is beside waits for both. The split's
bystanders wait for the chunk alone. Measured is, during a burst of so many pictures, the mean of as many longest
gaps of a stream: each picture's one. So no share has to be chosen, and all of these are means or medians of four.
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
from bench.towers import Variant

MONO, SPLIT = str(Arrangement.MONO_CALIBRATED), str(Arrangement.SPLIT)
PICTURE = Load(1, 448)  # 256 tokens
STREAMS = 4
TIMES = ("mono_ms", "split_ms", "encode_ms", "mono_chunk_ms", "split_chunk_ms", "mono_ttft_ms", "split_ttft_ms")
"""Of a block."""


def tower_plan(quick: bool) -> Plan:
    """Bursts beside streams, and as many pictures and texts one at a time beside nothing."""
    size = 2 if quick else 4
    bursts = Drive("bursts", STREAMS, tuple(Slot(kind, PICTURE, size) for kind in (Kind.LIVE, Kind.TEXT)), 32)
    alone = Drive("alone", 0, size * tuple(Slot(kind, PICTURE) for kind in (Kind.LIVE, Kind.TEXT)), 1)
    return Plan(1 if quick else 5, (bursts, alone))


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
    """One model."""

    variant: Variant
    blocks: Sequence[Block]
    lost: int  # blocks in which something failed

    @property
    def row(self) -> Mapping[str, Any]:
        """For the report: times are medians over blocks, ratios geometric means."""
        times = {name: round(median(getattr(block, name) for block in self.blocks), 1) for name in TIMES}
        return {
            "what": "tower",
            "variant": self.variant.name,
            "like": self.variant.like,
            "encode_to_prefill_flops": round(self.variant.ratio(), 3),
            "blocks": len(self.blocks),
            "lost": self.lost,
            **times,
            "encode_share": round(times["encode_ms"] / (times["encode_ms"] + times["mono_chunk_ms"]), 3),
            **_told("measured", [block.measured for block in self.blocks]),
            **_told("predicted", [block.predicted for block in self.blocks]),
            **_told("measured_vs_predicted", [block.measured / block.predicted for block in self.blocks]),
        }


def compared(variant: Variant, slots: Sequence[Seen]) -> Compared:
    """What was found of one model.

    Raises:
        Unmeasurable: in no block both sides have all that is needed.
    """
    numbers = dict.fromkeys(one.block for one in slots)
    found = [_block([one for one in slots if one.block == number]) for number in numbers]
    blocks = [block for block in found if block is not None]
    if not blocks:
        fault = next((one.fault for one in slots if one.fault), "nothing came")
        raise Unmeasurable(f"Of the model with the {variant.name} tower no block is whole on both sides: {fault}")
    return Compared(variant, blocks, len(found) - len(blocks))


def headline(found: Sequence[Compared]) -> dict[str, float]:
    """The ratio with each tower, and how it stands to what was predicted, where there are enough blocks."""
    told = {one.variant.name: one.row for one in found if len(one.blocks) >= QUOTED_FROM}
    figures = {f"bystander_tail_itl_mono_vs_split_{name}": row["measured"] for name, row in told.items()}
    return figures | {f"measured_vs_predicted_{name}": row["measured_vs_predicted"] for name, row in told.items()}


def _block(slots: Sequence[Seen]) -> Block | None:
    """None if something of it failed."""

    def of(side: str, kind: Kind, is_burst: bool) -> list[Seen]:
        return [one for one in slots if (one.side, one.slot.kind, one.slot.carriers > 1) == (side, kind, is_burst)]

    bursts = [[*of(MONO, kind, True), *of(SPLIT, kind, True)] for kind in (Kind.LIVE, Kind.TEXT)]
    alone = {(side, kind): of(side, kind, False) for side in (MONO, SPLIT) for kind in (Kind.LIVE, Kind.TEXT)}
    if any(len(pair) < 2 for pair in bursts) or any(one.fault for found in alone.values() for one in found):
        return None
    images, texts = (stalls_ms(*pair) for pair in bursts)
    ttfts_ms = {key: [1000 * one.carriers[0].ttft_s for one in found] for key, found in alone.items()}
    if images is None or texts is None or not all(ttfts_ms.values()):
        return None
    return Block(
        *images,
        median(ttfts_ms[MONO, Kind.LIVE]) - median(ttfts_ms[MONO, Kind.TEXT]),
        *texts,
        mono_ttft_ms=median(ttfts_ms[MONO, Kind.LIVE]),
        split_ttft_ms=median(ttfts_ms[SPLIT, Kind.LIVE]),
    )


def _told(name: str, ratios: Sequence[float]) -> dict[str, float]:
    """Their geometric mean, and its interval where there are enough."""
    logs = [math.log(ratio) for ratio in ratios]
    found = mean_interval(logs) if len(logs) >= LEAST else None
    bounds = {f"{name}_low": math.exp(found.low), f"{name}_high": math.exp(found.high)} if found else {}
    return {key: round(value, 3) for key, value in {name: math.exp(fmean(logs)), **bounds}.items()}
