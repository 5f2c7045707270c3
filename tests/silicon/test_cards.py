"""The names that a card goes by, and the table's figures among each other."""

import pytest
from ray._private.accelerators.nvidia_gpu import NvidiaGPUAcceleratorManager

from chiasm.silicon.cards import CARDS, Card, UnknownCard, cards_called


@pytest.mark.parametrize("card", CARDS, ids=lambda card: card.name)
def test_ray_names_it_as_the_table_says(card: Card) -> None:
    assert NvidiaGPUAcceleratorManager._gpu_name_to_accelerator_type(card.name) == card.ray


@pytest.mark.parametrize("card", CARDS, ids=lambda card: card.name)
def test_it_is_found_by_what_nvml_discovery_and_ray_say(card: Card) -> None:
    assert card in cards_called(card.name)
    assert card in cards_called(card.name.replace(" ", "-"))  # nvidia.com/gpu.product
    assert card in cards_called(card.ray)


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        ("rtx-4090", "NVIDIA GeForce RTX 4090"),
        ("RTX 4090", "NVIDIA GeForce RTX 4090"),
        ("l40s", "NVIDIA L40S"),
        ("nvidia-l4", "NVIDIA L4"),
        ("h100-sxm", "NVIDIA H100 80GB HBM3"),
        ("nvidia-h100-80gb", "NVIDIA H100 80GB HBM3"),
        ("NVIDIA_H100_PCIe", "NVIDIA H100 PCIe"),
        ("nvidia-h200-141gb", "NVIDIA H200"),
    ],
)
def test_people_and_clouds_are_understood(said: str, meant: str) -> None:
    assert [card.name for card in cards_called(said)] == [meant]


def test_of_several_that_share_a_name_the_slowest_comes_first() -> None:
    found = cards_called("A100")
    assert [(card.gb_per_s, card.gb) for card in found] == [(1555, 40), (1555, 40), (1935, 80), (2039, 80)]


def test_an_unknown_card_is_refused_with_what_is_near_and_what_to_do() -> None:
    with pytest.raises(
        UnknownCard, match=r'"rtx-4080".*Did you mean rtx-4090\?.*NVIDIA L40S.*set count, gpus and labels'
    ):
        cards_called("rtx-4080")


def test_every_card_has_a_source_and_its_own_name() -> None:
    assert all("NVIDIA" in card.source and " by " in card.source for card in CARDS)
    assert len({card.name for card in CARDS}) == len(CARDS)


def test_balance_is_flops_for_each_byte() -> None:
    assert cards_called("l4")[0].balance == pytest.approx(121e12 / 300e9)
