"""Which requests are sent at a point, and when."""

import json
import math

import pytest

from bench.vllm_epd.plan import (
    CAPACITY,
    FULL,
    QUICK,
    SHARES,
    WARM_UP,
    WARMING_UP,
    Level,
    Plan,
    Point,
    rate_at,
    requests_at,
    settings,
)

pytestmark = pytest.mark.slow

PLAN = Plan(rounds=1, levels={1: tuple(Level), 4: tuple(Level)}, paced=5, at_once=7, burst=9)


def test_both_sides_get_the_same_requests_at_the_same_moments_and_no_two_points_do() -> None:
    points = [Point(images, level, number) for images in (1, 4) for level in Level for number in (0, 1, 2)]
    asked = {point: requests_at(point, 2.0, PLAN, "a run") for point in points}
    assert all(requests_at(point, 2.0, PLAN, "a run") == planned for point, planned in asked.items())
    pictures = [json.dumps(each.body["messages"]) for planned in asked.values() for each in planned]
    assert len(set(pictures)) == len(pictures)
    others = [each for point in points for each in requests_at(point, 2.0, PLAN, "another run")]
    assert not set(pictures) & {json.dumps(each.body["messages"]) for each in others}


@pytest.mark.parametrize("images", [1, 4])
def test_every_request_has_so_many_pictures_all_unlike(images: int) -> None:
    for planned in requests_at(Point(images, Level.ALL_AT_ONCE, 1), 1.0, PLAN, "a run"):
        *pictures, text = planned.body["messages"][0]["content"]
        urls = {part["image_url"]["url"] for part in pictures}
        assert len(urls) == len(pictures) == images
        assert text["type"] == "text"
        assert planned.kind == f"{images}img"


@pytest.mark.parametrize(
    ("level", "number", "count"),
    [
        (Level.MIDDLE, 1, 5),
        (Level.HIGH, 2, 5),
        (Level.ALL_AT_ONCE, 1, 7),
        (Level.ALL_AT_ONCE, CAPACITY, 9),
        (Level.ALL_AT_ONCE, WARMING_UP, WARM_UP),
    ],
)
def test_they_come_at_the_rate_of_their_point(level: Level, number: int, count: int) -> None:
    point = Point(1, level, number)
    planned = requests_at(point, 2.0, PLAN, "a run")
    assert len(planned) == count
    due_s = [each.due_s for each in planned]
    assert due_s == sorted(due_s)
    assert due_s[-1] == pytest.approx(count / rate_at(point, 2.0))  # 0, where the rate is infinite


def test_loads_run_from_low_to_more_than_anybody_can_do() -> None:
    for levels in FULL.levels.values():
        shares = [SHARES[level] for level in levels]
        assert shares == sorted(shares)
        assert shares[0] < 0.7
        assert shares[-1] == math.inf
    assert FULL.rounds >= 5
    assert FULL.rounds * min(FULL.paced, FULL.at_once) >= 25


def test_a_journal_knows_plans_apart() -> None:
    assert settings(FULL) == settings(FULL) != settings(QUICK)
    assert json.loads(json.dumps(settings(FULL)))["rounds"] == FULL.rounds
