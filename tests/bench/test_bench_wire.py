import pytest

from bench.wire import Round, headline, summarise
from bench.wire_sides import Setting, time_alone, time_batch

MIB = 1 << 20


class CountingSide:
    """Lands what was asked for, and remembers how much was under way at most."""

    def __init__(self) -> None:
        self.asked = self.landed = self.most = 0

    def ask(self, nbytes: int) -> None:
        self.asked += 1
        self.most = max(self.most, self.asked - self.landed)

    def wait(self, nbytes: int) -> None:
        assert self.landed < self.asked, "waited for what nobody asked for"
        self.landed += 1


def test_alone_means_one_at_a_time() -> None:
    side = CountingSide()
    assert time_alone(side, 1) > 0
    assert time_alone(side, 1) > 0
    assert (side.asked, side.landed, side.most) == (2, 2, 1)


@pytest.mark.parametrize(("count", "most"), [(1, 1), (3, 3), (4, 4), (20, 4)])
def test_a_batch_keeps_four_under_way(count: int, most: int) -> None:
    side = CountingSide()
    assert time_batch(side, 1, count) > 0
    assert (side.asked, side.landed, side.most) == (count, count, most)


def test_ratios_are_taken_round_by_round_and_the_median_counts() -> None:
    """The machine is slow for both sides in the second round; the third is an outlier of the transport alone."""
    transport = [Round([0.002] * 4, 0.002), Round([0.2] * 4, 0.2), Round([0.02] * 4, 0.02)]
    bare = [Round([0.001] * 4, 0.001), Round([0.1] * 4, 0.1), Round([0.001] * 4, 0.001)]
    point = summarise(Setting("tcp", "curve"), "4.5 MiB", MIB, list(zip(transport, bare, strict=True)))
    assert point["setting"] == "tcp_curve"
    assert point["fetches"] == 12
    assert point["throughput_ratio"] == pytest.approx(0.5)
    assert point["throughput_ratio_spread"] == pytest.approx([0.05, 0.5])
    assert point["latency_ratio"] == pytest.approx(2)
    assert point["latency_ratio_spread"] == pytest.approx([2, 20])
    assert (point["transport_mib_s"], point["bare_mib_s"]) == (pytest.approx(50), pytest.approx(1000))
    assert (point["transport_p50_ms"], point["transport_p95_ms"]) == (pytest.approx(20), pytest.approx(200))
    assert headline([point])["tcp_curve_throughput_ratio"] == pytest.approx(0.5)
    assert headline([point | {"size": "1 MiB"}]) == {}
