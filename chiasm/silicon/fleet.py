"""The cards of a fleet, as people write them down and as Ray reports them."""

import re
from collections.abc import Iterable, Mapping
from typing import Any

from chiasm.silicon.cards import Card, cards_called

ACCELERATOR_LABEL = "ray.io/accelerator-type"
"""The node label in which Ray says by itself which cards a node has."""

_ENTRY = re.compile(r"(?:(\d+)\s*x\s+)?(.*\S)")


class NotACount(ValueError):
    """A list of cards that cannot be read; the message says which part."""


def written_cards(text: str) -> dict[str, int]:
    """How many of each name, from e.g. "8x rtx-4090, 4x h100".

    Raises:
        NotACount: an entry is empty, or counts none.
    """
    cards: dict[str, int] = {}
    for entry in text.split(","):
        match = _ENTRY.fullmatch(entry.strip())
        if match is None or match[1] == "0":
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


def fleet_of(names: Mapping[str, int]) -> tuple[dict[Card, int], list[str]]:
    """The cards of these names, and what is doubtful about them: of a name that fits several, the one with the least
    bandwidth counts.

    Raises:
        UnknownCard: a name fits none.
    """
    fleet: dict[Card, int] = {}
    doubts: list[str] = []
    for name, count in names.items():
        found = cards_called(name)
        fleet[found[0]] = fleet.get(found[0], 0) + count
        if len(found) > 1:
            rest = ", ".join(card.name for card in found[1:])
            doubts.append(f'"{name}" is taken for {found[0].name}, the slowest so called. If it is {rest}, write so.')
    return fleet, doubts
