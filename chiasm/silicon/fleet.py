"""The cards of a fleet, as people write them down and as Ray reports them."""

import re
from collections.abc import Iterable, Mapping
from typing import Any

from chiasm.silicon.cards import Card, cards_called

ACCELERATOR_LABEL = "ray.io/accelerator-type"
"""The node label in which Ray says by itself which cards a node has."""

_ENTRY = re.compile(r"(?:(\d+)\s*x\s*)?([^\d\s+][^+]*)")
"""A card's name begins with no digit, and has no +: `8 l4` and `8x l4 + 4x h100` are slips."""


class NotACount(ValueError):
    """A list of cards that cannot be read; the message says which part."""


def written_cards(text: str) -> dict[str, int]:
    """How many of each name, from e.g. "8x rtx-4090, 4x h100".

    Raises:
        NotACount: an entry is empty, counts none, or is written otherwise.
    """
    cards: dict[str, int] = {}
    for entry in text.split(","):
        match = _ENTRY.fullmatch(entry.strip())
        if match is None or (match[1] and not int(match[1])):
            raise NotACount(f'"{entry.strip()}" is no number of cards. Write them like "8x rtx-4090, 4x h100".')
        cards[match[2]] = cards.get(match[2], 0) + int(match[1] or 1)
    return cards


def reported_cards(nodes: Iterable[Mapping[str, Any]]) -> dict[str, int]:
    """How many of each name the living ones among `nodes` (`ray.nodes()`) have; those that Ray cannot name are left
    out."""
    cards: dict[str, int] = {}
    for node in nodes:
        name, gpus = node["Labels"].get(ACCELERATOR_LABEL), int(node["Resources"].get("GPU", 0))
        if node["Alive"] and name and gpus:
            cards[name] = cards.get(name, 0) + gpus
    return cards


def fleet_of(names: Mapping[str, int], told: Mapping[str, Card] | None = None) -> dict[Card, int]:
    """The cards of these names. Of a name that fits several, the one that is `told` counts, or else the one with the
    least bandwidth.

    Raises:
        UnknownCard: a name fits none.
    """
    fleet: dict[Card, int] = {}
    for name, count in names.items():
        card = (told or {}).get(name) or cards_called(name)[0]
        fleet[card] = fleet.get(card, 0) + count
    return fleet
