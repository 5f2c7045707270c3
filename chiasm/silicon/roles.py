"""`roles: auto`: which cards encode and which decode, by what each can do and what the model asks. Pure.

A phase takes a card as long as the greater of its FLOPs at the card's rate and its bytes at the card's bandwidth (the
roofline model: Williams et al., "Roofline", 2009). An encoder is one card. A decoder is a team of cards, the fewest
that have memory for the language model and for all streams, taken as one card of so many times the rates: what they
say to each other is not counted. Each kind of card goes to one half as a whole, for a pool is of equal workers; the
only kind of a fleet is divided. Of the ways to do so that answer nearly as many requests a second as the best, the one
whose decoders are quickest with a step counts, since that is what a reader waits for.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import combinations

from chiasm.silicon.cards import Card
from chiasm.silicon.demand import Demand
from chiasm.telemetry.signature.work import Work

MEMORY_SHARE = 0.92  # of a card that vLLM takes, unless --gpu-memory-utilization says otherwise
TEAMS = (1, 2, 4, 8)  # cards of one decoder (--tensor-parallel-size)
NEARLY = 0.9  # of the most requests a second

Fleet = Mapping[Card, int]
"""How many there are of each."""


class NoRoles(ValueError):
    """These cards cannot be divided between the halves; the message says why."""


@dataclass(frozen=True)
class Generator:
    """A language model on some cards of a kind, with or without the tower beside it."""

    card: Card
    cards: int
    streams: int  # that it has memory for, up to what the traffic asks
    prefill_s: float  # of one request
    step_s: float  # of a decode step with all streams
    answer_s: float  # of one request's answer: its part of the steps

    @property
    def request_s(self) -> float:
        """How long a request keeps it busy."""
        return self.prefill_s + self.answer_s


@dataclass(frozen=True)
class Choice:
    """Who does what, and what comes of it, in requests a second."""

    encoders: Fleet
    decoders: Fleet
    team: int  # cards of a decoder
    step_s: float  # of the slowest decoder
    encode_per_s: float
    decode_per_s: float
    unsplit_per_s: float  # of the same cards, each with the whole model; 0 where none can hold it

    @property
    def per_s(self) -> float:
        """Of both halves together: no more than the slower one lets through."""
        return min(self.encode_per_s, self.decode_per_s)


def seconds(work: Work, card: Card, cards: int = 1) -> float:
    """How long so many cards take at least."""
    return max(work.flops / (1e12 * card.tflops), work.nbytes / (1e9 * card.gb_per_s)) / cards


def generator(card: Card, cards: int, demand: Demand, tower: bool = False) -> Generator | None:
    """A language model on so many cards, with the tower beside it if it is to be `tower`; None: too little memory."""
    room = MEMORY_SHARE * 1e9 * card.gb * cards - demand.language_bytes - tower * demand.tower_bytes
    streams = min(demand.traffic.streams, int(room // demand.kv_bytes))
    if streams < 1:
        return None
    step_s = seconds(demand.step(streams), card, cards)
    answer_s = step_s * demand.traffic.answer_tokens / streams
    return Generator(card, cards, streams, seconds(demand.prefill, card, cards), step_s, answer_s)


def best_team(card: Card, count: int, demand: Demand, tower: bool = False) -> Generator | None:
    """`generator` on the team of `count` cards that suits; None: all have too little memory."""
    found = [each for team in TEAMS if team <= count and (each := generator(card, team, demand, tower)) is not None]
    return max(found, key=lambda each: (each.streams, -each.cards), default=None)


def choose(fleet: Fleet, demand: Demand) -> Choice:
    """The division of these cards that answers most requests a second.

    Raises:
        NoRoles: there are fewer than two cards, or none has the memory to decode and leaves another to encode.
    """
    if sum(fleet.values()) < 2:
        raise NoRoles("there is nothing to divide: an encoder and a decoder take a card each, and there are not two.")
    unsplit_per_s = sum(_unsplit_per_s(card, count, demand) for card, count in fleet.items())
    choices = [
        Choice(
            encoders,
            decoders,
            team=generators[0].cards,
            step_s=max(each.step_s for each in generators),
            encode_per_s=sum(count / seconds(demand.encode, card) for card, count in encoders.items()),
            decode_per_s=sum(decoders[each.card] // each.cards / each.request_s for each in generators),
            unsplit_per_s=unsplit_per_s,
        )
        for encoders, decoders in _divisions(fleet)
        if (generators := _generators(decoders, demand))
    ]
    if not choices:
        raise NoRoles(
            f"no kind of card has memory for a decoder: it takes {demand.language_bytes / 1e9:.1f} GB of weights and "
            f"{demand.kv_bytes / 1e9:.2f} GB of KV cache for each request, of {MEMORY_SHARE:.0%} of a card, on up to "
            f"{TEAMS[-1]} of a kind, and another card has to encode. Add cards, or take a smaller model."
        )
    most = max(choice.per_s for choice in choices)
    near = [choice for choice in choices if choice.per_s >= NEARLY * most]
    return min(near, key=lambda choice: (choice.step_s, -choice.per_s))


def _divisions(fleet: Fleet) -> Iterator[tuple[Fleet, Fleet]]:
    kinds = tuple(fleet)
    if len(kinds) == 1:
        [(card, count)] = fleet.items()
        yield from (({card: encoders}, {card: count - encoders}) for encoders in range(1, count))
    for size in range(1, len(kinds)):
        for chosen in combinations(kinds, size):
            encoders = {card: fleet[card] for card in chosen}
            yield encoders, {card: count for card, count in fleet.items() if card not in encoders}


def _generators(decoders: Fleet, demand: Demand) -> list[Generator]:
    """One of each kind, in teams of one size, for a pool has one; none where any kind has too little memory."""
    sizes = [[generator(card, team, demand) for card in decoders] for team in TEAMS if team <= min(decoders.values())]
    fitting = [[each for each in found if each is not None] for found in sizes]
    whole = [found for found in fitting if len(found) == len(decoders)]
    return max(whole, key=lambda found: (min(each.streams for each in found), -found[0].cards), default=[])


def _unsplit_per_s(card: Card, count: int, demand: Demand) -> float:
    whole = best_team(card, count, demand, tower=True)
    if whole is None:
        return 0.0
    return count // whole.cards / (seconds(demand.encode, card, whole.cards) + whole.request_s)
