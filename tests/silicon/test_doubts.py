"""A card's name that fits several products: what is said of it depends on whether it matters."""

import pytest
from public_models import QWEN_7B, QWEN_72B

from chiasm.config import ClusterConfig
from chiasm.silicon.assigned import assign
from chiasm.silicon.demand import Demand, Traffic
from chiasm.silicon.doubts import doubts
from chiasm.silicon.fleet import fleet_of
from chiasm.silicon.roles import NoRoles, choose

DEMAND = Demand(QWEN_7B, Traffic())


def said(names: dict[str, int]) -> list[str]:
    return list(doubts(names, choose(fleet_of(names), DEMAND), DEMAND))


def test_a_name_that_turns_the_roles_round_says_so_and_how() -> None:
    [doubt] = said({"rtx-4090": 8, "a100": 4})
    assert doubt.startswith(
        '"a100" is taken for NVIDIA A100-PCIE-40GB, the slowest so called, and the roles depend on it'
    )
    eighty = "if it is NVIDIA A100 80GB PCIe or NVIDIA A100-SXM4-80GB, 8 x GeForce-RTX-4090 encode and 4 x A100 decode"
    assert eighty in doubt
    assert doubt.endswith("Write which it is.")


def test_a_name_that_changes_nothing_but_figures_says_that() -> None:
    [doubt] = said({"l4": 8, "a100-80gb": 4})
    assert doubt == (
        '"a100-80gb" is taken for NVIDIA A100 80GB PCIe, the slowest so called. If it is NVIDIA A100-SXM4-80GB, write '
        "so: the roles stay as they are, the figures do not."
    )


def test_a_name_of_one_card_leaves_no_doubt() -> None:
    assert said({"l4": 8, "a100-sxm4-80gb": 4}) == []


def test_where_nothing_can_be_divided_another_card_of_the_name_may_do() -> None:
    message = (
        r"no kind of card has memory.*a100.*if it is NVIDIA A100 80GB PCIe or .*, 1 x L4 encode and 2 x A100 decode"
    )
    with pytest.raises(NoRoles, match=message):
        assign(ClusterConfig(model="m", roles="auto"), {"l4": 1, "a100": 2}, QWEN_72B, Traffic(streams=1))
    with pytest.raises(NoRoles, match=r"smaller model\.$"):
        assign(ClusterConfig(model="m", roles="auto"), {"l4": 2}, QWEN_72B)
