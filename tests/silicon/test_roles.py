"""Which cards encode and which decode: a table of fleets, and the arithmetic by hand for one of them."""

from typing import Any

import pytest
from public_models import QWEN_3B, QWEN_7B, QWEN_72B

from chiasm.silicon.cards import Card, cards_called
from chiasm.silicon.demand import Demand, Traffic, UnknownDemand
from chiasm.silicon.fleet import fleet_of, written_cards
from chiasm.silicon.roles import Choice, NoRoles, choose, generator, seconds
from chiasm.silicon.words import explained, warnings

LONG = Traffic(answer_tokens=2048)


def card(name: str) -> Card:
    return cards_called(name)[0]


def chosen(cards: str, model: dict[str, Any], traffic: Traffic | None = None) -> tuple[Choice, Demand]:
    demand = Demand(model, traffic or Traffic())
    return choose(fleet_of(written_cards(cards)), demand), demand


def counts(fleet: Any) -> dict[str, int]:
    return {card.name.removeprefix("NVIDIA "): count for card, count in fleet.items()}


@pytest.mark.parametrize(
    ("cards", "model", "encoders", "decoders", "team"),
    [
        ("8x rtx-4090, 4x h100-sxm", QWEN_7B, {"GeForce RTX 4090": 8}, {"H100 80GB HBM3": 4}, 1),
        # Decoding on the eight would answer 5 % more, with steps of twice the time.
        ("8x rtx-4090, 4x a100-sxm4-80gb", QWEN_7B, {"GeForce RTX 4090": 8}, {"A100-SXM4-80GB": 4}, 1),
        ("4x l40s, 4x h100-sxm", QWEN_7B, {"L40S": 4}, {"H100 80GB HBM3": 4}, 1),
        ("8x l4, 4x a100-sxm4-40gb", QWEN_7B, {"L4": 8}, {"A100-SXM4-40GB": 4}, 1),
        # The order in which they are named does not matter.
        ("4x a100-sxm4-40gb, 8x l4", QWEN_7B, {"L4": 8}, {"A100-SXM4-40GB": 4}, 1),
        # Nothing but the H200s can hold it, two at a time.
        ("8x l4, 8x h200", QWEN_72B, {"L4": 8}, {"H200": 8}, 2),
        ("4x l4, 4x rtx-4090, 4x h100-sxm", QWEN_72B, {"L4": 4, "GeForce RTX 4090": 4}, {"H100 80GB HBM3": 4}, 4),
        # One weak card before eight strong ones would hold them up: the other way round is quicker still.
        ("1x h200, 8x l40s", QWEN_7B, {"H200": 1}, {"L40S": 8}, 1),
        ("8x l40s", QWEN_7B, {"L40S": 1}, {"L40S": 7}, 1),
        ("2x l4", QWEN_7B, {"L4": 1}, {"L4": 1}, 1),
    ],
)
def test_a_fleet(
    cards: str, model: dict[str, Any], encoders: dict[str, int], decoders: dict[str, int], team: int
) -> None:
    choice, _ = chosen(cards, model)
    assert (counts(choice.encoders), counts(choice.decoders), choice.team) == (encoders, decoders, team)


def test_the_arithmetic_by_hand() -> None:
    choice, demand = chosen("8x rtx-4090, 4x h100-sxm", QWEN_7B)
    encode_s = demand.encode.flops / 165.2e12  # bound by compute
    prefill_s = demand.prefill.flops / 989.5e12
    step_s = demand.step(32).nbytes / 3350e9  # bound by bandwidth
    assert choice.encode_per_s == pytest.approx(8 / encode_s)
    assert choice.decode_per_s == pytest.approx(4 / (prefill_s + 128 * step_s / 32))
    assert choice.step_s == pytest.approx(step_s)
    assert demand.encode.flops == pytest.approx(7.26e12, rel=0.01)
    assert demand.prefill.flops == pytest.approx(19.0e12, rel=0.01)


def test_two_cards_of_one_decoder_are_twice_a_card_for_everything() -> None:
    demand = Demand(QWEN_7B, Traffic())
    one, two = (generator(card("h200"), cards, demand) for cards in (1, 2))
    assert one is not None
    assert two is not None
    assert two.request_s == pytest.approx(one.request_s / 2)


def test_a_decoder_answers_as_many_at_once_as_its_memory_holds() -> None:
    demand = Demand(QWEN_7B, Traffic(streams=128))
    found = generator(card("l4"), 1, demand)
    assert found is not None
    room = 0.92 * 24e9 - demand.language_bytes
    assert found.streams == int(room // (57_344 * (1296 + 128 + 128)))
    whole = generator(card("l4"), 1, demand, tower=True)
    assert whole is not None
    assert whole.streams == int((room - demand.tower_bytes) // (57_344 * (1296 + 128 + 128)))
    assert generator(card("l4"), 1, Demand(QWEN_72B, Traffic())) is None


@pytest.mark.parametrize(
    ("cards", "model", "cause"),
    [
        ("1x h200", QWEN_7B, "nothing to divide"),
        ("8x l4", QWEN_72B, "145.4 GB of weights"),  # eight would hold it, but one has to encode
        ("1x rtx-4090, 1x l4", QWEN_72B, "no kind of card has memory"),
    ],
)
def test_what_cannot_be_divided(cards: str, model: dict[str, Any], cause: str) -> None:
    with pytest.raises(NoRoles, match=cause):
        chosen(cards, model)


def test_a_model_of_an_unknown_family_is_refused_with_the_cure() -> None:
    with pytest.raises(UnknownDemand, match=r"internvl.*Set count, gpus and labels"):
        Demand({"model_type": "internvl"}, Traffic())


def said(cards: str, model: dict[str, Any], stealing: bool = False, traffic: Traffic | None = None) -> str:
    choice, demand = chosen(cards, model, traffic)
    return "\n".join(warnings(choice, demand, stealing))


def test_equal_cards_gain_nothing_and_that_is_said() -> None:
    assert "gains no throughput here: 49.9 requests/s against 53.1 unsplit, since all cards are equal" in said(
        "8x l40s", QWEN_7B
    )
    assert "scheduler.stealing" in said("8x l40s", QWEN_7B)
    assert "not in these figures" in said("8x l40s", QWEN_7B, stealing=True)


def test_a_half_that_waits_for_the_other_is_named() -> None:
    assert "encoders wait for decoders 44% of the time" in said("8x rtx-4090, 4x h100-sxm", QWEN_7B)
    assert "decoders wait for encoders" in said("1x l4, 1x h100-sxm", QWEN_3B)


def test_a_fleet_that_suits_the_model_gets_no_warning() -> None:
    assert said("7x l4, 10x a100-sxm4-80gb", QWEN_7B) == ""


def test_idle_encoders_are_told_of_where_a_split_gains() -> None:
    text = said("4x l4, 4x rtx-4090, 4x h100-sxm", QWEN_72B)
    assert "times what decoders let through" in text
    assert "times what decoders let through" not in said("4x l4, 4x rtx-4090, 4x h100-sxm", QWEN_72B, stealing=True)


def test_a_negligible_tower_is_named() -> None:
    assert "the tower is negligible: on NVIDIA H200" in said("8x l4, 8x h200", QWEN_72B)
    assert "negligible" not in said("8x l4, 4x a100-sxm4-40gb", QWEN_7B)


def test_a_decoder_with_little_memory_is_named() -> None:
    text = said("2x a100-sxm4-40gb, 2x rtx-4090", QWEN_7B, traffic=Traffic(streams=1000))
    assert "has memory for" in text
    assert "15.2 GB" in text
    assert "has memory for" not in said("8x l4, 4x a100-sxm4-40gb", QWEN_7B)


def test_the_explanation_has_the_numbers_that_decided() -> None:
    choice, demand = chosen("8x l4, 4x a100-sxm4-40gb", QWEN_7B)
    text = "\n".join(explained(choice, demand))
    assert "8 x NVIDIA L4 (121 TFLOP/s, 300 GB/s, 403 FLOP/byte, 24 GB): encode 60 ms" in text
    assert f"{1000 * seconds(demand.encode, card('l4')):.3g} ms" in text
    assert "Encoders: 8 x NVIDIA L4" in text
    assert "Unsplit, each card with the whole model" in text


def test_longer_answers_make_a_split_of_unlike_cards_pay() -> None:
    """Decoding is what the small card is worst at."""
    split, _ = chosen("1x l4, 10x a100-sxm4-80gb", QWEN_7B, LONG)
    assert split.per_s > split.unsplit_per_s
