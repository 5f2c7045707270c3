"""What is measured: which carriers come beside how many bystanders, and for how long.

*Bystanders* are text streams, so many of them at any time: as one is through, its successor comes. A *carrier* is a
request that brings something into the prompt beside them: pictures, or as much text. Time is cut into *slots*; at the
beginning of each comes one carrier, or several at once (a burst), and what bystanders' tokens do until the next slot is
what that carrier did to them. So carriers come by the clock, whatever has become of the one before. A slot is so long
that the largest carrier is answered to its end in it on every side, which a pilot has found: what ran over would be
taken for the next one's doing.
"""

import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

SEED = 1
LEAD_IN_S = 2.0  # before the first slot: bystanders come to be as many as there are to be, other sides to rest
TAIL_S = 0.5  # what is under way at the end is broken off
BYSTANDER_TOKENS = (
    256  # of an answer: so many that its successor's prompt is a rare thing, its context still a short one
)

MARGIN = 1.4  # of a slot, over the largest carrier's time on the slowest side in the pilot: one in ten took 1.25
LEAST_SLOT_S = 2.0  # for enough tokens of bystanders


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
    def pixels(self) -> int:
        """Of all its pictures."""
        return self.carriers * self.load.pictures * self.load.side**2

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
    slots: tuple[Slot, ...]
    answer_tokens: int  # of each carrier
    slot_s: float = 0.0  # 0: the pilot has not been yet

    @property
    def heaviest(self) -> list[Slot]:
        """Which bring the most pixels that are still to be encoded, or else the most text: slots are to be as long as
        these need.
        """
        live = [slot for slot in self.slots if slot.kind is Kind.LIVE] or self.slots
        most = max(slot.pixels for slot in live)
        return list(dict.fromkeys(slot for slot in live if slot.pixels == most))

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

    def timed(self, needed_s: Mapping[str, float]) -> "Plan":
        """The same with slots as long as they must be, by the name of their drive: what its heaviest carriers needed
        from when they were due until the last was answered.
        """
        drives = (replace(drive, slot_s=_slot_s(needed_s[drive.name])) for drive in self.drives)
        return replace(self, drives=tuple(drives))

    @property
    def loads(self) -> list[Load]:
        """All that carriers bring, each once."""
        return list(dict.fromkeys(slot.load for drive in self.drives for slot in drive.slots if slot.load.pictures))

    def seconds(self, encoded: Sequence[bool]) -> float:
        """About how long it takes all sides, of which each measures `encoded` slots, or does not."""
        return self.blocks * sum(drive.seconds(side) for drive in self.drives for side in encoded)


def _slot_s(needed_s: float) -> float:
    return max(LEAST_SLOT_S, math.ceil(10 * MARGIN * needed_s) / 10)


def _plan(
    blocks: int, streams: tuple[int, int], loads: tuple[Slot, ...], bursts: tuple[Slot, ...], tokens: int
) -> Plan:
    """Single carriers answer briefly, so that they are no bystanders for long; those of a burst with so many `tokens`
    that the first are still answered while the others are computed.
    """
    return Plan(blocks, (Drive("loads", streams[0], loads, 16), Drive("bursts", streams[1], bursts, tokens)))


def _live(carriers: int, load: Load) -> Slot:
    return Slot(Kind.LIVE, load, carriers)


# 1,024 tokens are the most that the bench model's processor makes of one picture. They take the encoder 4 s and the
# decoder 2 s, on a core each, so that with a token each 66 ms for what they answer slots are 8 s. The largest burst has
# twice as many.
_MIDDLE, _LARGE = Load(2, 448), Load(1, 896)  # 512 and 1,024 tokens
_SMALLER = Load(1, 336)  # 144 tokens
FULL = _plan(
    5,
    (4, 8),
    (
        _live(1, NOTHING),
        *(Slot(kind, load) for kind in (Kind.LIVE, Kind.TEXT) for load in (_MIDDLE, _LARGE)),
        Slot(Kind.ENCODED, _LARGE),
    ),
    (_live(4, NOTHING), _live(4, _SMALLER), _live(4, _MIDDLE), _live(2, _MIDDLE), _live(1, _MIDDLE)),
    tokens=32,
)
_LEAST = Load(1, 224)  # 64 tokens
QUICK = _plan(
    1,
    (4, 4),
    (_live(1, NOTHING), *(Slot(kind, _LEAST) for kind in Kind)),
    (_live(2, NOTHING), _live(2, _LEAST)),
    tokens=16,
)
