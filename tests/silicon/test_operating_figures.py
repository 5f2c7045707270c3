"""The figures of docs/operating.md are what their commands say."""

import json
import math
import re
from pathlib import Path

import pytest
from public_models import QWEN_7B

from chiasm.footprint import footprint, language_model_bytes
from chiasm.silicon.cards import cards_called
from chiasm.silicon.demand import Demand, Traffic
from chiasm.silicon.fleet import fleet_of, written_cards
from chiasm.silicon.roles import MEMORY_SHARE, Choice, choose, seconds
from chiasm.wire.protocol import tensor_nbytes
from scheduler.workers import STORE_SHARE

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "operating.md").read_text()
TRAFFIC = Traffic()
DEMAND = Demand(QWEN_7B, TRAFFIC)
PER_S = 20
BUSY = 0.7
A100S = "4x a100-sxm4-80gb"


def chosen(cards: str) -> Choice:
    return choose(fleet_of(written_cards(cards)), DEMAND)


def test_the_example_of_sizing() -> None:
    measured = json.loads((ROOT / "bench" / "results" / "phases-h100-7b.json").read_text())
    took = {one["phase"]: one["seconds"] for one in measured["series"] if one["what"] == "request"}
    encode_s, prefill_s = took["encode"], took["prefill"]
    decode_s = took["decode"] * TRAFFIC.answer_tokens / TRAFFIC.streams
    encoders, decoders = PER_S * encode_s / BUSY, PER_S * (prefill_s + decode_s) / BUSY
    model = footprint(QWEN_7B)
    embedding = tensor_nbytes((TRAFFIC.image_tokens, QWEN_7B["text_config"]["hidden_size"]), "bfloat16")
    card = 1e9 * MEMORY_SHARE * cards_called("h100-sxm")[0].gb
    free = card - language_model_bytes(QWEN_7B)
    for said in (
        f"e {encode_s:.4f}, p {prefill_s:.4f}, d {decode_s:.4f}",
        f"{encoders:.1f}: **{math.ceil(encoders)}**",
        f"{decoders:.1f}: **{math.ceil(decoders)}**",
        f"{TRAFFIC.prompt_tokens + TRAFFIC.answer_tokens:,} · {model.kv:,} = {DEMAND.kv_bytes / 1e6:.0f} MB",
        f"({card / 1e9:.1f} − {language_model_bytes(QWEN_7B) / 1e9:.1f}) GB / {DEMAND.kv_bytes / 1e6:.0f} MB = "
        f"{free // DEMAND.kv_bytes:.0f}; {TRAFFIC.streams} are wanted",
        f"{embedding / 1e6:.1f} MB; {PER_S * embedding / 1e6:.0f} MB/s",
        f"{TRAFFIC.streams} · {embedding / 1e6:.1f} MB = {TRAFFIC.streams * embedding / 1e9:.1f} GB",
        f"1 GiB: {STORE_SHARE * (1 << 30) // embedding:.0f} images",
        f"{1000 * seconds(DEMAND.encode, cards_called('h100-sxm')[0]):.1f} ms for that encode",
    ):
        assert said in PAGE


@pytest.mark.parametrize(
    ("number", "split", "unsplit"),
    [
        (0, f"3x l4, {A100S}", A100S),
        (1, f"3x l4, {A100S}", f"3x l4, {A100S}"),
        (2, f"8x l4, {A100S}", f"8x l4, {A100S}"),
    ],
)
def test_the_examples_of_cost(number: int, split: str, unsplit: str) -> None:
    said = re.findall(r"\| ([\d.]+) and ([\d.]+): ([\d.]+) times \| (.*?) \|$", PAGE, re.MULTILINE)[number]
    ours, theirs = chosen(split).per_s, chosen(unsplit).unsplit_per_s
    assert said[:3] == (f"{ours:.3g}", f"{theirs:.3g}", f"{ours / theirs:.2f}")
    if split == unsplit:  # the price is the same
        assert f"{abs(1 - theirs / ours):.0%}".replace("%", " %") in said[3]
    else:
        assert 0.2 < ours / theirs - 1 < 0.26  # "a quarter" of the A100s' price is what the L4s may cost
