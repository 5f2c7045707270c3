"""What is measured: which carriers come beside how many bystanders, how often, and for how long.

*Bystanders* are text streams, so many of them at any time. A *carrier* is a request that brings something into the
prompt beside them: pictures, or as much text. Time is cut into *slots*; at the beginning of each comes one carrier, or
several at once (a burst), and what bystanders' tokens do until the next slot is what that carrier did to them. So
carriers come at a fixed rate, one each slot, whatever has become of the one before, and what is compared lies seconds
apart.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

SEED = 1
LEAD_IN_S = 3.0  # before the first slot: bystanders come to be as many as there are to be, other sides to rest
TAIL_S = 1.5  # what is under way at the end of the last slot needs about so long


class Kind(StrEnum):
    """What the prompt tokens of a carrier are of."""

    LIVE = "live"  # pictures that nobody has seen
    ENCODED = "encoded"  # pictures whose embeddings are there, in a prompt that is new: they need only be prefilled
    TEXT = "text"  # the control: as many tokens of text


@dataclass(frozen=True)
class Load:
    """So many square pictures, of so many pixels a side."""

    pictures: int
    side: int

    def __str__(self) -> str:
        return f"{self.pictures} of {self.side} x {self.side}" if self.pictures else "nothing"


NOTHING = Load(0, 0)


@dataclass(frozen=True)
class Slot:
    """What comes at its beginning: so many carriers, each with that load."""

    kind: Kind
    load: Load
    carriers: int = 1

    @property
    def name(self) -> str:
        """As series and answers call it."""
        what = f"{self.kind}: {self.load}" if self.load.pictures else str(self.load)
        return what if self.carriers == 1 else f"burst of {self.carriers}, {what}"


@dataclass(frozen=True)
class Drive:
    """Slots that follow one another beside the same number of bystanders. Its first slot's load is nothing: the others
    are held against that.
    """

    name: str
    streams: int
    slot_s: float
    slots: tuple[Slot, ...]

    def slots_for(self, encoded: bool, block: int) -> list[Slot]:
        """In the order in which they come in that block, which is the same for whoever is measured. `encoded` ones are
        left out where nobody can tell whether an embedding was there.
        """
        order = list(self.slots)
        random.Random(f"{SEED} {self.name} {block}").shuffle(order)
        return [slot for slot in order if encoded or slot.kind is not Kind.ENCODED]

    def seconds(self, encoded: bool) -> float:
        """About how long it takes."""
        return LEAD_IN_S + self.slot_s * len(self.slots_for(encoded, 0)) + TAIL_S


@dataclass(frozen=True)
class Plan:
    """In every block each drive is measured once on each side, in turn."""

    blocks: int
    drives: tuple[Drive, ...]
    answer_tokens: int = 16  # of a carrier: few, so that it is no bystander for long
    burst_tokens: int = 64  # of one of a burst: so many that the first are still answered while the others are computed
    bystander_s: float = 5.0  # that a bystander's answer takes if nothing comes in between

    def every(self, seconds: float) -> "Plan":
        """The same with carriers that come every so many seconds in its first drive, in the others in proportion."""
        factor = seconds / self.drives[0].slot_s
        return replace(
            self, drives=tuple(replace(drive, slot_s=round(factor * drive.slot_s, 3)) for drive in self.drives)
        )

    @property
    def loads(self) -> list[Load]:
        """All that carriers bring, each once."""
        return list(dict.fromkeys(slot.load for drive in self.drives for slot in drive.slots if slot.load.pictures))

    @property
    def streams(self) -> list[int]:
        """How many bystanders there are in one drive or another, the fewest first."""
        return sorted({drive.streams for drive in self.drives})

    def seconds(self, encoded: Sequence[bool]) -> float:
        """About how long it takes all sides, of which each measures `encoded` slots, or does not."""
        return self.blocks * sum(drive.seconds(side) for drive in self.drives for side in encoded)


def _each(kind: Kind, *loads: Load) -> tuple[Slot, ...]:
    return tuple(Slot(kind, load) for load in loads)


_BASE = Slot(Kind.LIVE, NOTHING)

# A token of the bench model takes a core about 5.5 ms to encode and 2 ms to prefill, so the largest carrier keeps the
# encoder busy for 60 % of a slot, and the decoder for 30 %. 1,024 tokens are the most that its processor makes of one
# picture.
_LEAST, _MIDDLE, _LARGE, _MANY = Load(1, 448), Load(2, 448), Load(1, 896), Load(4, 448)  # 256, 512, 1,024, 1,024 tokens
_CARRIERS = (
    *_each(Kind.LIVE, _LEAST, _MIDDLE, _LARGE, _MANY),
    *_each(Kind.ENCODED, _LARGE, _MANY),
    *_each(Kind.TEXT, _MIDDLE, _LARGE, _MANY),
)
_BURSTS = (Slot(Kind.LIVE, NOTHING, 4), Slot(Kind.LIVE, _LEAST, 4))
_GROWTH = (_BASE, Slot(Kind.LIVE, _MIDDLE))
FULL = Plan(
    blocks=5,
    drives=(
        Drive("loads", 4, 9.5, (_BASE, *_CARRIERS, *_BURSTS)),
        Drive("2 streams", 2, 5.5, _GROWTH),
        Drive("8 streams", 8, 5.5, _GROWTH),
    ),
)
_SMALL = Load(1, 336)  # 144 tokens
QUICK = Plan(
    blocks=1,
    drives=(
        Drive(
            "loads",
            4,
            2.6,
            (_BASE, *(Slot(kind, _SMALL) for kind in Kind), Slot(Kind.LIVE, NOTHING, 2), Slot(Kind.LIVE, _SMALL, 2)),
        ),
    ),
    burst_tokens=24,
    bystander_s=2.5,
)
