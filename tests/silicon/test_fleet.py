"""Cards as they are written down and reported."""

import pytest

from chiasm.silicon.fleet import NotACount, fleet_of, reported_cards, written_cards


def test_a_list_of_cards_is_read() -> None:
    assert written_cards("8x rtx-4090, 4 x h100-sxm,L4") == {"rtx-4090": 8, "h100-sxm": 4, "L4": 1}
    assert written_cards("2x l4, 3x l4") == {"l4": 5}


@pytest.mark.parametrize("text", ["", "8x l4,", "0x l4"])
def test_what_counts_nothing_is_refused(text: str) -> None:
    with pytest.raises(NotACount, match="Write them like"):
        written_cards(text)


def test_ray_s_nodes_are_counted_by_the_name_that_ray_gives() -> None:
    def node(label: str | None, gpus: float, alive: bool = True) -> dict[str, object]:
        labels = {"ray.io/accelerator-type": label} if label else {}
        return {"Alive": alive, "Labels": labels, "Resources": {"CPU": 8.0, "GPU": gpus} if gpus else {"CPU": 8.0}}

    nodes = [node("L4", 2.0), node("L4", 1.0), node("H100", 8.0), node("H100", 8.0, alive=False), node(None, 0)]
    assert reported_cards([*nodes, node(None, 4.0)]) == {"L4": 3, "H100": 8}


def test_two_names_of_one_card_add_up_and_a_doubtful_name_is_told() -> None:
    fleet, doubts = fleet_of({"l40s": 2, "NVIDIA L40S": 1, "H100": 4})
    assert {card.name: count for card, count in fleet.items()} == {"NVIDIA L40S": 3, "NVIDIA H100 PCIe": 4}
    [doubt] = doubts
    assert "NVIDIA H100 PCIe" in doubt
    assert "NVIDIA H100 80GB HBM3" in doubt
