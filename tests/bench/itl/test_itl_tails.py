"""The tail while pictures are computed: which gaps are in it, and when it is quoted."""

import pytest
from made_slots import BASE, BYSTANDER, GAP_S, answer, carrier, failed, overloaded, slots_with, stream

from bench.itl.plan import Drive, Kind, Load, Slot
from bench.itl.slots import Seen, read
from bench.itl.tails import Tails, tails

BURST = Slot(Kind.LIVE, Load(1, 448), 2)
DRIVE = Drive("bursts", 1, (BASE, BURST), 4, 8.0)


def side(name: str, stall_s: float, first_s: float, blocks: int = 5) -> list[Seen]:
    """Of one bystander, which stands still for `stall_s` by each of two carriers."""
    return [slots_with({BURST: stall_s}, name, block, DRIVE, first_s)[1] for block in range(1, blocks + 1)]


def told(one: list[Seen], other: list[Seen]) -> Tails:
    found = tails(one, other)
    assert found is not None
    return found


def test_both_sides_are_watched_until_the_slower_one_has_its_last_first_token() -> None:
    found = told(side("mono", 1.0, 3.0, blocks=20), side("split", 0.2, 5.0, blocks=20))
    assert [found.one.high_ms, found.one.longest_ms] == pytest.approx([2050, 2050])
    assert [found.other.high_ms, found.other.longest_ms] == pytest.approx([450, 450])
    assert found.ratio == pytest.approx(2050 / 450)
    # Of five seconds, two stood still, or 0.4: the rest had a token each 50 ms.
    assert found.one.samples == pytest.approx(20 * (1 + 3.0 / GAP_S), abs=40)
    assert found.other.samples == pytest.approx(20 * (1 + 4.6 / GAP_S), abs=40)
    assert found.interval is not None
    assert (found.interval.low, found.interval.high) == pytest.approx((found.ratio, found.ratio))
    assert found.longest is not None
    assert found.longest.value == pytest.approx(2050 / 450)
    assert found.is_quotable


def test_what_ran_over_is_in_the_tail_and_what_failed_is_not() -> None:
    mono, split = side("mono", 1.5, 3.0), side("split", 0.2, 3.0)
    mono[1], split[2] = overloaded(mono[1]), failed(split[2])
    found = told(mono, split)
    assert (found.pairs, found.lost) == (4, 1)
    assert (found.one.overloaded, found.other.overloaded) == (1, 0)
    assert not found.is_quotable


def test_p99_is_told_by_a_thousand_gaps_on_both_sides() -> None:
    few, many = side("mono", 0.2, 3.0), side("split", 0.2, 3.0, blocks=25)
    assert (told(few, few).share, told(many, many).share) == (0.95, 0.99)
    assert told(few, many[:5]).one.samples < 1000 < told(many, many).one.samples
    assert tails(few, []) is None


def test_the_interval_of_a_tail_is_what_blocks_make_of_it() -> None:
    split = side("split", 1.2, 3.0)
    found = told([side("mono", stall_s, 3.0)[at] for at, stall_s in enumerate((1.1, 1.2, 1.3, 1.4, 1.45))], split)
    steady = told(side("mono", 1.3, 3.0), split)
    assert found.interval is not None
    assert steady.interval is not None
    assert steady.interval.low == pytest.approx(steady.interval.high)
    assert found.interval.low < found.ratio < found.interval.high
    wide = told([side("mono", stall_s, 3.0)[at] for at, stall_s in enumerate((0.1, 0.1, 0.1, 0.1, 1.4))], split)
    assert wide.interval is not None
    assert 0 < wide.interval.low < wide.ratio


def test_a_stream_and_its_successor_are_one() -> None:
    later = tuple(11.1 + GAP_S * number for number in range(60))
    answers = [stream(11.0, {8.0: 2.0}), answer(BYSTANDER, 11.05, later)]
    carriers = [carrier(BASE, 0.0), *[carrier(BURST, 8.0, first_s=4.0)] * 2]
    one = read([*answers, *carriers], DRIVE, "mono", 1)[1]
    assert told([one], [one]).one.longest_ms == pytest.approx(2050)  # the successor had no such gap
