import pytest

from bench.load.answers import Answer
from bench.overhead.figures import as_series, blocks_table, headline, intervals, row_of_bursts, row_of_pairs
from bench.overhead.plan import Traffic


def answer(ttft_ms: float, tpot_ms: float, tokens: int = 11) -> Answer:
    chunks = tuple((ttft_ms + number * tpot_ms) / 1000 for number in range(tokens))
    return Answer(0, "text", 0.0, 0.0, chunks, chunks[-1], 9, tokens)


def test_what_is_added_is_taken_of_pairs() -> None:
    directly = [answer(100, 5), answer(200, 5), answer(300, 5)]
    through = [answer(101, 5.1), answer(202, 5.2), answer(350, 6.2)]
    row = row_of_pairs(list(zip(through, directly, strict=True)))
    assert row["pairs"] == 3
    assert row["added_ttft_p50_ms"] == pytest.approx(2)  # of 1, 2 and 50
    assert row["added_per_token_ms"] == pytest.approx(0.2)  # of 0.1, 0.2 and 1.2
    assert row["added_per_token_mean_ms"] == pytest.approx(0.5)
    assert (row["ttft_p50_gateway_ms"], row["ttft_p50_direct_ms"]) == (pytest.approx(202), pytest.approx(200))
    assert (row["tpot_mean_gateway_ms"], row["tpot_mean_direct_ms"]) == (pytest.approx(5.5), pytest.approx(5))


def test_throughput_is_of_output_tokens_until_the_last() -> None:
    through, directly = [answer(0, 200), answer(0, 100, 6)], [answer(0, 100), answer(0, 100, 6)]
    row = row_of_bursts(through, directly)
    assert (row["tokens_per_s_gateway"], row["tokens_per_s_direct"]) == (pytest.approx(8.5), pytest.approx(17))
    assert row["throughput_vs_direct"] == pytest.approx(0.5)


def test_a_figure_is_the_mean_of_its_own_traffics_blocks_with_its_interval() -> None:
    blocks = [("text", 1.0), ("text", 2.0), ("text", 3.0), ("images", 10.0), ("images", 10.0), ("images", 10.0)]
    series = [
        {"traffic": traffic, "block": number, "added_ttft_p50_ms": added, "added_per_token_ms": added / 100}
        | {"added_per_token_mean_ms": added / 50}
        for number, (traffic, added) in enumerate(blocks)
    ]
    found = intervals(series)
    assert set(found) == {
        *("added_ttft_p50_ms", "added_per_token_ms", "added_per_token_mean_ms"),
        *("image_added_ttft_p50_ms", "image_added_per_token_ms", "image_added_per_token_mean_ms"),
    }
    quoted = found["added_ttft_p50_ms"]
    assert (quoted.value, quoted.low, quoted.high) == pytest.approx(
        (2, 2 - 2.484, 2 + 2.484), abs=0.001
    )  # t of 2: 4.303
    assert headline(found)["image_added_ttft_p50_ms"] == 10
    written = as_series(series, found)
    assert written[:6] == series
    assert {"traffic": "images", "block": "all", "figure": "image_added_per_token_ms"}.items() <= written[-2].items()
    assert [(row["value"], row["low"], row["high"]) for row in written[-2:]] == [(0.1,) * 3, (0.2,) * 3]


def test_bursts_of_two_models_are_told_apart() -> None:
    ratios = {Traffic.BURST: 0.99, Traffic.SMALL_BURST: 0.9}
    series = [
        {"traffic": str(traffic), "block": block, "throughput_vs_direct": ratio}
        for traffic, ratio in ratios.items()
        for block in (1, 2, 3)
    ]
    assert headline(intervals(series)) == {"throughput_vs_direct": 0.99, "small_model_throughput_vs_direct": 0.9}
    table = blocks_table(series, Traffic.BURST)
    assert table is not None
    assert table.row_count == 3
    assert blocks_table(series, Traffic.TEXT) is None
