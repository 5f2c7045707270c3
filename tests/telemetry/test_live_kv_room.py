"""What requests take of a KV cache, and how that is shown."""

import pytest
from live_engines import CONFIG, encoder_machine, machine
from rich.console import Console

from bench.kv_bytes import Reading, compared, headline, read_page
from chiasm.image_tokens import ImageSizes
from chiasm.nouns import WorkerId
from chiasm.profile.kv import show
from chiasm.telemetry.live.kv_room import kv_room, kv_token_bytes
from chiasm.telemetry.live.machine import Machines
from chiasm.telemetry.signature.shapes import language_of
from chiasm.telemetry.signature.work import prefill_work

TOKEN = 2 * 36 * 2 * 128 * 2  # of Qwen2.5-VL-3B, in bfloat16
SIZES = ImageSizes(28 * 28, (4, 16_384), (56 * 56, 12_845_056))


def test_a_token_takes_keys_and_values_of_all_layers() -> None:
    assert kv_token_bytes(machine()) == TOKEN
    assert kv_token_bytes(machine(kv_value_bytes=1)) == TOKEN // 2
    assert prefill_work(language_of(CONFIG), [1], 2).kv_bytes == TOKEN  # the roofline counts the same


@pytest.mark.parametrize(
    ("prompt", "answer", "tokens", "blocks"), [(16, 0, 16, 1), (16, 1, 16, 1), (16, 2, 17, 2), (1, 0, 1, 1)]
)
def test_a_request_takes_whole_blocks_and_none_for_its_last_token(
    prompt: int, answer: int, tokens: int, blocks: int
) -> None:
    room = kv_room(machine(), prompt, answer)
    assert (room.tokens, room.blocks, room.nbytes) == (tokens, blocks, blocks * 16 * TOKEN)
    assert room.requests == 100 // blocks


def test_tables_are_of_the_caches_that_there_are() -> None:
    asked = Machines(
        SIZES,
        {
            WorkerId("encoder-0"): encoder_machine(),
            WorkerId("decoder-0"): machine(kv_blocks=5000),
            WorkerId("decoder-1"): machine(kv_blocks=5000),
            WorkerId("encoder-0-text"): machine(),
        },
        {WorkerId("decoder-2"): "it is gone"},
    )
    with open("/dev/null", "w") as nowhere:
        console = Console(width=200, record=True, file=nowhere)
        show(asked, console)
    text = console.export_text()
    assert "decoder-2 is left out: it does not tell what it runs on: it is gone" in text
    assert "decoder-0, decoder-1: 2.95 GB, 80,000 tokens of 36,864 bytes, in blocks of 16 tokens" in text
    # 36 x 36 cells; with 128 tokens of text and 127 of the answer, 97 blocks
    line, _ = (line for line in text.splitlines() if "1008 x 1008" in line)
    assert [cell.strip() for cell in line.strip("│ ").split("│")] == [
        "1008 x 1008", "1,296", "47.8 MB", "57.2 MB", "51"
    ]  # fmt: skip


PAGE = """\
# TYPE vllm:kv_cache_usage_perc gauge
vllm:kv_cache_usage_perc{engine="0",model_name="pupil"} 0.02
# TYPE vllm:generation_tokens counter
vllm:generation_tokens_total{engine="0",model_name="pupil"} 37.0
"""


def test_an_engines_page_says_how_much_is_taken() -> None:
    assert read_page(PAGE) == Reading(0.02, 37.0)
    with pytest.raises(ValueError, match="generation_tokens"):
        read_page(PAGE.partition("# TYPE vllm:gen")[0])


def test_what_is_taken_is_compared_with_what_should_be() -> None:
    rows = [
        compared(machine(), (1, (672, 672)), 576, 600, Reading(0.0, 10.0), Reading(0.38, 12.0)),
        compared(machine(), (1, (224, 224)), 64, 88, Reading(0.0, 10.0), Reading(0.07, 12.0)),
    ]
    assert [(row["computed_blocks"], row["allocated_blocks"]) for row in rows] == [(38, 38), (6, 7)]
    assert rows[0]["computed_bytes"] == rows[0]["allocated_bytes"] == 38 * 16 * TOKEN
    assert headline(rows) == {
        "most_blocks_apart": 1,
        "allocated_over_computed": round(45 / 44, 4),
        "most_image_kv_bytes": 576 * TOKEN,
    }
