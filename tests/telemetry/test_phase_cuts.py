"""What is left of a time without others."""

import pytest

from chiasm.telemetry.timelines.phase_cuts import without


@pytest.mark.parametrize(
    ("holes", "left"),
    [
        ([], [(0, 10)]),
        ([(2, 4)], [(0, 2), (4, 10)]),
        ([(6, 8), (2, 4)], [(0, 2), (4, 6), (8, 10)]),
        ([(2, 6), (4, 5), (6, 7)], [(0, 2), (7, 10)]),
        ([(-3, 2), (9, 12)], [(2, 9)]),
        ([(-3, 12)], []),
        ([(12, 15), (-5, -1)], [(0, 10)]),
        ([(8, 3), (5, 5)], [(0, 10)]),  # of a clock that was set back meanwhile
    ],
)
def test_what_is_left(holes: list[tuple[float, float]], left: list[tuple[float, float]]) -> None:
    assert without(0, 10, holes) == left


def test_nothing_is_left_of_nothing() -> None:
    assert without(5, 5, []) == without(5, 5, [(1, 2), (7, 8)]) == without(6, 5, []) == []
