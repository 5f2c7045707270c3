"""How many cards one engine takes, as its arguments say: vLLM runs a rank on each."""

import math
from collections.abc import Sequence

from chiasm.reserved import EXECUTOR, NODES, RANKS, REPLICAS, REPLICAS_APART, flags

_ON_ONE_HOST = (None, "mp", "uni")


def too_few_cards(args: Sequence[str], gpus: float, field: str) -> str | None:
    """Why a worker with so many `gpus`, which `field` says, has too few for an engine with these arguments; None if it
    has enough.

    Nothing is said of 0: without GPUs a rank is some cores, and on hosts of one's own Ray hides no card from a worker
    that asks for none. Nor of ranks that vLLM itself may place on other hosts.
    """
    given = {flag: value for flag, (_, value) in flags(args)}
    if not gpus or NODES in given or given.get(EXECUTOR) not in _ON_ONE_HOST:
        return None
    counted = (*RANKS, REPLICAS) if given.keys().isdisjoint(REPLICAS_APART) else RANKS
    ranks = {flag: size for flag in counted if isinstance(size := given.get(flag), int)}
    cards = math.prod(ranks.values())
    if cards <= max(1.0, gpus):
        return None
    asked = " times ".join(f"{flag} {size}" for flag, size in ranks.items())
    return (
        f"{asked} is {cards} cards for one engine, and {field} is {gpus:g}. Set that to {cards}, or ask for fewer here."
    )
