"""What is known is drawn, and what is not has no panel."""

import pytest
from made_slots import DRIVE, PICTURE, TEXT, slots_with

from bench.itl.findings import findings
from bench.itl.plots import draw

pytestmark = pytest.mark.slow


@pytest.mark.timeout(180)  # on a busy machine matplotlib alone takes half a minute
def test_a_panel_of_nothing_is_hidden() -> None:
    pytest.importorskip("matplotlib")
    slots = [one for block in (1, 2) for one in slots_with({PICTURE: 1.0, TEXT: 0.5}, "http://foreign", block, DRIVE)]
    panels = {panel.get_title(): panel for panel in draw(findings(slots, None), slots).axes}
    hidden = {title for title, panel in panels.items() if not panel.get_visible()}
    assert hidden == {
        "KV cache of one carrier",
        "Bystanders: gaps in slots of the largest burst",
        "Bystanders: added to ITLs by all of them",
    }
    assert {label for panel in panels.values() for label in panel.get_legend_handles_labels()[1]} >= {
        "http://foreign, live",
        "http://foreign, text",
    }
    assert "Bystanders: P95 of ITL" in panels  # of all points, for some have too few gaps for P99
    with_bytes = draw(findings(slots, 9216), slots).axes[-1]
    assert with_bytes.get_visible()
    assert all(len(line.get_xdata()) for line in with_bytes.lines)
