"""Cards as they are written down and reported."""

import pytest

from chiasm.silicon.cards import cards_called
from chiasm.silicon.fleet import NotACount, fleet_of, reported_cards, written_cards


def test_a_list_of_cards_is_read() -> None:
    assert written_cards("8x rtx-4090, 4 x h100-sxm,L4") == {"rtx-4090": 8, "h100-sxm": 4, "L4": 1}
    assert written_cards("2x l4, 3x l4") == {"l4": 5}
    assert written_cards("8xl4,12x NVIDIA A100-SXM4-80GB") == {"l4": 8, "NVIDIA A100-SXM4-80GB": 12}


@pytest.mark.parametrize("text", ["", "8x l4,", "0x l4", "8 rtx4090 + 4 a100", "8x l4 + 4x h200", "8 l4", "8x 4x l4"])
def test_what_counts_nothing_is_refused(text: str) -> None:
    with pytest.raises(NotACount, match="Write them like"):
        written_cards(text)


def test_ray_s_nodes_are_counted_by_the_name_that_ray_gives() -> None:
    def node(label: str | None, gpus: float, alive: bool = True) -> dict[str, object]:
        labels = {"ray.io/accelerator-type": label} if label else {}
        return {"Alive": alive, "Labels": labels, "Resources": {"CPU": 8.0, "GPU": gpus} if gpus else {"CPU": 8.0}}

    nodes = [node("L4", 2.0), node("L4", 1.0), node("H100", 8.0), node("H100", 8.0, alive=False), node(None, 0)]
    assert reported_cards([*nodes, node(None, 4.0)]) == {"L4": 3, "H100": 8}


def test_two_names_of_one_card_add_up() -> None:
    fleet = fleet_of({"l40s": 2, "NVIDIA L40S": 1, "h200": 4})
    assert {card.name: count for card, count in fleet.items()} == {"NVIDIA L40S": 3, "NVIDIA H200": 4}


def test_a_name_of_several_cards_is_the_one_that_is_told_or_the_slowest() -> None:
    names = {"H100": 4}
    [slowest] = fleet_of(names)
    assert slowest.name == "NVIDIA H100 PCIe"
    quicker = cards_called("h100-sxm")[0]
    assert fleet_of(names, {"H100": quicker}) == {quicker: 4}
