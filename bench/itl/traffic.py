"""When a drive's carriers and bystanders come."""

import random
from collections.abc import Sequence

from bench.itl.bodies import Texts, bystander, carrier
from bench.itl.plan import LEAD_IN_S, Drive, Plan, Slot
from bench.load.asking import Planned

BYSTANDER = "bystander"
LEAST_TOKENS = 8  # of a bystander's answer: what would be shorter does not come


def requests(
    plan: Plan, drive: Drive, slots: Sequence[Slot], texts: Texts, gap_s: float, dice: random.Random
) -> list[Planned]:
    """All of them. `gap_s` is from one token of a bystander to its next where nothing comes in between.

    A carrier's kind is the name of its slot.
    """
    end_s = LEAD_IN_S + drive.slot_s * len(slots)
    found = [
        Planned(due_s, BYSTANDER, bystander(tokens, dice))
        for due_s, life_s in bystanders(drive.streams, plan.bystander_s, end_s)
        if (tokens := round(life_s / gap_s)) >= LEAST_TOKENS
    ]
    for number, slot in enumerate(slots):
        due_s = LEAD_IN_S + drive.slot_s * number
        tokens = plan.answer_tokens if slot.carriers == 1 else plan.burst_tokens
        found += [
            Planned(due_s, slot.name, carrier(slot.kind, slot.load, tokens, texts, dice)) for _ in range(slot.carriers)
        ]
    return found


def bystanders(streams: int, life_s: float, end_s: float) -> list[tuple[float, float]]:
    """When they come, and for how long each is to be answered, so that there are always so many until the end.

    Those at the beginning have lives of different lengths, so that from then on one comes as another goes, evenly. They
    come by the clock: where they are answered more slowly than that, there are more of them.
    """
    apart_s = life_s / streams
    found = [(0.0, apart_s * (number + 1)) for number in range(streams)]
    due_s = apart_s
    while due_s < end_s:
        found.append((due_s, life_s))
        due_s += apart_s
    return [(due_s, min(life_s, end_s - due_s)) for due_s, life_s in found]
