"""Names that fit several cards: which of them was taken, and whether another would change who does what."""

from collections.abc import Iterator, Mapping
from itertools import groupby

from chiasm.silicon.cards import Card, cards_called
from chiasm.silicon.demand import Demand
from chiasm.silicon.fleet import fleet_of
from chiasm.silicon.roles import Choice, NoRoles, choose

Outcome = tuple[dict[str, int], dict[str, int], int]
"""How many encode and how many decode, by Ray's name of their cards, and in teams of how many."""


def doubts(names: Mapping[str, int], choice: Choice | None, demand: Demand) -> Iterator[str]:
    """What is doubtful about the fleet of these names, from which `choice` came, or none; one name at a time is taken
    for another card."""
    before = _told(choice) if choice else None
    for name in names:
        taken, *others = cards_called(name)
        start = f'"{name}" is taken for {taken.name}, the slowest so called'
        outcomes = [(card, _outcome(names, name, card, demand)) for card in others]
        changes = [(card, outcome) for card, outcome in outcomes if outcome != before]
        if changes:
            yield f"{start}, and the roles depend on it: {'; '.join(_in_words(changes))}. Write which it is."
        elif others and choice:
            rest = ", ".join(card.name for card in others)
            yield f"{start}. If it is {rest}, write so: the roles stay as they are, the figures do not."


def _outcome(names: Mapping[str, int], name: str, card: Card, demand: Demand) -> Outcome | None:
    """What comes of it if `name` is that card; None if nothing can."""
    try:
        return _told(choose(fleet_of(names, {name: card}), demand))
    except NoRoles:
        return None


def _told(choice: Choice) -> Outcome:
    return _by_ray_name(choice.encoders), _by_ray_name(choice.decoders), choice.team


def _by_ray_name(fleet: Mapping[Card, int]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for card, count in fleet.items():
        counts[card.ray] = counts.get(card.ray, 0) + count
    return counts


def _in_words(changes: list[tuple[Card, Outcome | None]]) -> Iterator[str]:
    for outcome, cards in groupby(changes, key=lambda change: change[1]):
        which = f"if it is {' or '.join(card.name for card, _ in cards)}, "
        if outcome is None:
            yield which + "these cards cannot be divided"
            continue
        encoders, decoders, team = outcome
        teams = f", {team} for each decoder" if team > 1 else ""
        yield which + f"{_named(encoders)} encode and {_named(decoders)} decode{teams}"


def _named(counts: Mapping[str, int]) -> str:
    return " and ".join(f"{count} x {name}" for name, count in counts.items())
