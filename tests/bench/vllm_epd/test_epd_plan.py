"""Which requests are sent at a point, and when."""

import json
import math

import pytest

from bench.vllm_epd.plan import FULL, QUICK, SHARES, Level, Plan, Point, rate_at, requests_at, settings

PLAN = Plan(rounds=1, images=(1, 4), levels=tuple(Level), window_s=5.0, requests=(3, 12))


def test_both_sides_get_the_same_requests_at_the_same_moments_and_no_two_points_do() -> None:
    points = [Point(images, level, number) for images in (1, 4) for level in Level for number in (0, 1, 2)]
    asked = {point: requests_at(point, 2.0, PLAN) for point in points}
    assert all(requests_at(point, 2.0, PLAN) == planned for point, planned in asked.items())
    pictures = [json.dumps(each.body["messages"]) for planned in asked.values() for each in planned]
    assert len(set(pictures)) == len(pictures)


@pytest.mark.parametrize("images", [1, 4])
def test_every_request_has_so_many_pictures_all_unlike(images: int) -> None:
    for planned in requests_at(Point(images, Level.ALL_AT_ONCE, 1), 1.0, PLAN):
        *pictures, text = planned.body["messages"][0]["content"]
        urls = {part["image_url"]["url"] for part in pictures}
        assert len(urls) == len(pictures) == images
        assert text["type"] == "text"
        assert planned.kind == f"{images}img"


@pytest.mark.parametrize(
    ("level", "capacity_per_s", "count"),
    [
        (Level.LOW, 0.1, 3),  # the least
        (Level.MIDDLE, 2.0, 6),  # for five seconds
        (Level.HIGH, 100.0, 12),  # the most
        (Level.ALL_AT_ONCE, 2.0, 12),
    ],
)
def test_they_come_for_so_long_but_are_neither_too_few_nor_too_many(
    level: Level, capacity_per_s: float, count: int
) -> None:
    point = Point(1, level, 1)
    planned = requests_at(point, capacity_per_s, PLAN)
    assert len(planned) == count
    due_s = [each.due_s for each in planned]
    assert due_s == sorted(due_s)
    assert due_s[-1] == pytest.approx(count / rate_at(point, capacity_per_s))  # 0, where the rate is infinite


def test_loads_run_from_low_to_more_than_anybody_can_do() -> None:
    shares = [SHARES[level] for level in FULL.levels]
    assert shares == sorted(shares)
    assert shares[0] < 0.5
    assert shares[-1] == math.inf
    assert FULL.rounds >= 5
    assert set(FULL.images) == {1, 4}


def test_a_journal_knows_plans_apart() -> None:
    assert settings(FULL) == settings(FULL) != settings(QUICK)
    assert json.loads(json.dumps(settings(FULL)))["rounds"] == FULL.rounds
