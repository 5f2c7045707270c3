"""`chiasm bench itl --towers`: the tail of bystanders' latency, unsplit to split, over models with other vision towers.

For each model both sides get the same bursts in turn, of pictures and of as much text, and what the ratio should be is
computed from its phases, each of which is measured where the others do not come into it:

    predicted = (encode + chunk of mono) / chunk of split

    encode  of one picture by the monolithic engine: the median time to first token of a picture alone, less that of as
            many tokens of text alone. Preparing the picture, in vLLM's front-end, is a part of it that stalls nobody:
            some hundredths of it
    chunk   a step with the largest chunk of a prompt in it, beside all streams: the same tail of bystanders' ITL, but
            during bursts of text

An encode is a part of one step, in front of a chunk of its prompt, and whoever is beside waits for both. The split's
bystanders wait for the chunk alone.
"""

import random
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bench.itl import fits
from bench.itl.bodies import Texts, carrier
from bench.itl.plan import Drive, Kind, Load, Plan, Slot
from bench.itl.slots import Seen, Unmeasurable
from bench.load.answers import Answer
from bench.load.asking import Planned
from bench.topologies.arrangement import Arrangement
from bench.towers import Variant

MONO, SPLIT = str(Arrangement.MONO_CALIBRATED), str(Arrangement.SPLIT)
PICTURE = Load(1, 448)  # 256 tokens
STREAMS = 4


def tower_plan(variant: Variant, quick: bool) -> Plan:
    """Slots in which the split's encoder, with one core, gets done with a burst: a second and a half for a picture
    where the tower costs as much as the prefill, and what surrounds it.
    """
    size = 2 if quick else 4
    slot_s = round(2 + size * (0.75 + 1.4 * variant.ratio()), 2)
    bursts = tuple(Slot(kind, PICTURE, size) for kind in (Kind.LIVE, Kind.TEXT))
    return Plan(1 if quick else 5, (Drive("bursts", STREAMS, slot_s, bursts),), burst_tokens=32)


def alone(texts: Texts, plan: Plan, dice: random.Random) -> list[Planned]:
    """A picture and as much text in turn, each when the one before is through: as often as there are blocks."""
    apart_s = plan.drives[0].slot_s / plan.drives[0].slots[0].carriers
    kinds = [Kind.LIVE, Kind.TEXT] * plan.blocks
    return [
        Planned(apart_s * number, str(kind), carrier(kind, PICTURE, 1, texts, dice))
        for number, kind in enumerate(kinds)
    ]


def encode_s(answers: Sequence[Answer]) -> float:
    """See above.

    Raises:
        Unmeasurable: a request failed.
    """
    if failed := next((answer for answer in answers if not answer.ok), None):
        raise Unmeasurable(f"A request of the profile failed: {failed.error}")
    ttfts = {
        kind: statistics.median(answer.ttft_s for answer in answers if answer.kind == kind)
        for kind in (Kind.LIVE, Kind.TEXT)
    }
    return ttfts[Kind.LIVE] - ttfts[Kind.TEXT]


@dataclass(frozen=True)
class Compared:
    """One model. Times in ms."""

    variant: Variant
    encode_ms: float
    mono_chunk_ms: float
    split_chunk_ms: float
    tails: fits.Tails  # of mono, and of split

    @property
    def predicted(self) -> float:
        """See above."""
        return (self.encode_ms + self.mono_chunk_ms) / self.split_chunk_ms

    @property
    def row(self) -> Mapping[str, Any]:
        """For the report."""
        low, high = self.tails.range or (None, None)
        return {
            "what": "tower",
            "variant": self.variant.name,
            "like": self.variant.like,
            "encode_to_prefill_flops": round(self.variant.ratio(), 3),
            "encode_ms": round(self.encode_ms, 1),
            "mono_chunk_ms": round(self.mono_chunk_ms, 1),
            "split_chunk_ms": round(self.split_chunk_ms, 1),
            "encode_share": round(self.encode_ms / (self.encode_ms + self.mono_chunk_ms), 3),
            "percentile": self.tails.percentile,
            "mono_ms": round(self.tails.ms[0], 1),
            "split_ms": round(self.tails.ms[1], 1),
            "measured": round(self.tails.ratio, 3),
            "lowest_without_a_block": low and round(low, 3),
            "highest_without_a_block": high and round(high, 3),
            "predicted": round(self.predicted, 3),
            "measured_vs_predicted": round(self.tails.ratio / self.predicted, 3),
        }


def compared(variant: Variant, slots: Sequence[Seen], profile: Sequence[Answer]) -> Compared:
    """What was found of one model. `slots` are of both sides, `profile` of the monolithic one.

    Raises:
        Unmeasurable: a side has no burst that counts.
    """
    of_images, of_text = (
        fits.tails(*([one for one in slots if (one.side, one.slot.kind) == (side, kind)] for side in (MONO, SPLIT)))
        for kind in (Kind.LIVE, Kind.TEXT)
    )
    if of_images is None or of_text is None:
        fault = next((one.fault for one in slots if one.fault), "none came")
        raise Unmeasurable(f"Of the model with the {variant.name} tower no burst counts on both sides: {fault}")
    return Compared(variant, 1000 * encode_s(profile), of_text.ms[0], of_text.ms[1], of_images)


def headline(found: Sequence[Compared]) -> dict[str, float]:
    """The ratio with each tower, and how it stands to what was predicted."""
    figures = {f"bystander_tail_itl_mono_vs_split_{one.variant.name}": one.row["measured"] for one in found}
    figures |= {f"measured_vs_predicted_{one.variant.name}": one.row["measured_vs_predicted"] for one in found}
    return figures
