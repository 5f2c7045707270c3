"""Which arrangements stay up together."""

import pytest

from bench.serve.sides import NoRoom, grouped, side_names


def test_all_are_together_where_memory_holds_them() -> None:
    assert grouped({"mono": 2, "split": 5, "steal": 7}, room=14) == [["mono", "split", "steal"]]


def test_the_first_is_in_every_group() -> None:
    needs = {"mono": 2, "split": 5, "steal": 7, "x2": 4}
    assert grouped(needs, room=10) == [["mono", "split"], ["mono", "steal"], ["mono", "x2"]]
    assert grouped(needs, room=13) == [["mono", "split"], ["mono", "steal", "x2"]]


def test_what_fits_beside_nothing_is_refused() -> None:
    with pytest.raises(NoRoom, match=r"mono and steal need about 9\.0 GiB .* 8\.0 GiB are free\. Cure"):
        grouped({"mono": 2 << 30, "steal": 7 << 30}, room=8 << 30)


def test_who_is_there_again_has_another_name_in_the_figures() -> None:
    assert side_names([["mono", "split"], ["mono", "x2"]]) == [
        {"mono": "mono", "split": "split"},
        {"mono again": "mono", "x2": "x2"},
    ]
