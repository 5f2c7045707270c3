"""A choice of roles in words: the arithmetic behind it, and what it is not good for."""

from chiasm.silicon.cards import Card
from chiasm.silicon.demand import Demand
from chiasm.silicon.roles import NEARLY, Choice, Fleet, best_team, generator, seconds
from chiasm.telemetry.signature.work import Work

NEGLIGIBLE = 0.05  # part of a request that its encode takes, below which there is little to take away
IDLE = 2.0  # times that one half can do what the other can


def explained(choice: Choice, demand: Demand) -> list[str]:
    """Why, line by line."""
    traffic = demand.traffic
    lines = [
        f"A request: an image of {traffic.image_tokens:,} tokens, {traffic.text_tokens:,} of text, an answer of "
        f"{traffic.answer_tokens:,}, {traffic.streams} answered at once.",
        f"  encode   {_work(demand.encode)}",
        f"  prefill  {_work(demand.prefill)}",
        f"  a step   {_work(demand.step(traffic.streams))}",
        "At best, each phase taking the longer of FLOPs / (FLOP/s) and bytes / (bytes/s):",
    ]
    lines += [f"  {_pace(card, count, choice, demand)}" for card, count in _everyone(choice).items()]
    lines += [
        f"Encoders: {_named(choice.encoders)}, {_rate(choice.encode_per_s)} requests/s.",
        f"Decoders: {_named(choice.decoders)}, {_teams(choice.team)}, {_rate(choice.decode_per_s)} requests/s.",
        f"Together: {_rate(choice.per_s)} requests/s. Of the divisions by kind of card that answer at least "
        f"{NEARLY:.0%} of the most requests, this has the quickest decode step: {1000 * choice.step_s:.3g} ms.",
    ]
    if choice.unsplit_per_s:
        lines.append(f"Unsplit, each card with the whole model: {_rate(choice.unsplit_per_s)} requests/s.")
    else:
        lines.append("Unsplit: none of these cards has memory for the whole model.")
    return lines


def warnings(choice: Choice, demand: Demand, stealing: bool) -> list[str]:
    """Where the choice gains little or nothing, and the cure. With `stealing`, encoders take text while idle."""
    return [
        *(_no_gain(choice, stealing) or _idle_half(choice, stealing)),
        *_negligible_tower(choice, demand),
        *_little_memory(choice, demand),
    ]


def _no_gain(choice: Choice, stealing: bool) -> list[str]:
    if choice.unsplit_per_s < choice.per_s:
        return []
    cure = "Let idle encoders answer text (scheduler.stealing), or serve unsplit with vLLM."
    if len(_everyone(choice)) == 1:
        cause = "all cards are equal"
    elif choice.encode_per_s > choice.decode_per_s:
        cause = f"encoders wait for decoders {1 - choice.decode_per_s / choice.encode_per_s:.0%} of the time"
    else:
        cause = f"decoders wait for encoders {1 - choice.encode_per_s / choice.decode_per_s:.0%} of the time"
        cure = "Add encoders, or serve unsplit with vLLM."
    if stealing:
        cure = "That idle encoders answer text besides is not in these figures."
    return [
        f"a split gains no throughput here: {_rate(choice.per_s)} requests/s against {_rate(choice.unsplit_per_s)} "
        f"unsplit, since {cause}. What is left to gain is that no answer waits for an encode. {cure}"
    ]


def _negligible_tower(choice: Choice, demand: Demand) -> list[str]:
    found = []
    for card in choice.decoders:
        decoder = generator(card, choice.team, demand)
        assert decoder is not None  # else it were no choice
        encode_s = seconds(demand.encode, card, choice.team)
        share = encode_s / (encode_s + decoder.request_s)
        if share < NEGLIGIBLE:
            found.append(
                f"the tower is negligible: on {card.name} an image's encode is {share:.1%} of a request's "
                f"{1000 * (encode_s + decoder.request_s):.3g} ms, and no split takes more than that off the decoders."
            )
    return found


def _little_memory(choice: Choice, demand: Demand) -> list[str]:
    found = []
    for card in choice.decoders:
        decoder = generator(card, choice.team, demand)
        assert decoder is not None
        if decoder.streams < demand.traffic.streams:
            found.append(
                f"a decoder on {_teams(choice.team, card)} has memory for {decoder.streams} requests of this size at "
                f"once, not {demand.traffic.streams}: the language model takes {demand.language_bytes / 1e9:.1f} GB. "
                "More cards for each decoder (gpus and --tensor-parallel-size), or a shorter --max-model-len."
            )
    return found


def _idle_half(choice: Choice, stealing: bool) -> list[str]:
    if choice.encode_per_s >= IDLE * choice.decode_per_s and not stealing:
        return [
            f"encoders can do {choice.encode_per_s / choice.decode_per_s:.1f} times what decoders let through, and are "
            f"idle the rest of the time. {choice.decode_per_s / choice.encode_per_s:.0%} of them would do, or let them "
            "answer text (scheduler.stealing)."
        ]
    if choice.decode_per_s >= IDLE * choice.encode_per_s:
        return [
            f"decoders can do {choice.decode_per_s / choice.encode_per_s:.1f} times what encoders let through: with "
            "traffic like this they wait for images. More encoders, or whole workers (docs/split_or_stay.md)."
        ]
    return []


def _pace(card: Card, count: int, choice: Choice, demand: Demand) -> str:
    facts = (
        f"{count} x {card.name} ({card.tflops:g} TFLOP/s, {card.gb_per_s:,g} GB/s, {card.balance:.0f} FLOP/byte, "
        f"{card.gb:g} GB): encode {1000 * seconds(demand.encode, card):.3g} ms"
    )
    decoder = generator(card, choice.team, demand) if card in choice.decoders else best_team(card, count, demand)
    if decoder is None:
        return f"{facts}; no memory to decode"
    where = f" on {decoder.cards} cards" if decoder.cards > 1 else ""
    return (
        f"{facts}; decode{where} {1000 * decoder.request_s:.3g} ms (prefill {1000 * decoder.prefill_s:.3g}, its part "
        f"of {demand.traffic.answer_tokens} steps of {1000 * decoder.step_s:.3g} ms for {decoder.streams} at once "
        f"{1000 * decoder.answer_s:.3g})"
    )


def _work(work: Work) -> str:
    return f"{work.flops / 1e12:8.3g} TFLOP {work.nbytes / 1e9:8.3g} GB"


def _rate(per_s: float) -> str:
    return f"{per_s:.3g}" if per_s < 100 else f"{per_s:,.0f}"


def _everyone(choice: Choice) -> Fleet:
    """How many of each kind, as they were before."""
    kinds = {**choice.encoders, **choice.decoders}
    return {card: choice.encoders.get(card, 0) + choice.decoders.get(card, 0) for card in kinds}


def _named(fleet: Fleet) -> str:
    return ", ".join(f"{count} x {card.name}" for card, count in fleet.items())


def _teams(team: int, card: Card | None = None) -> str:
    named = f" {card.name}" if card else ""
    return f"one{named} card each" if team == 1 else f"{team}{named} cards each"
