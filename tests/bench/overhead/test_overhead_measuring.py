"""What goes which way, and when; two played engines stand for the gateway and for the engine behind it."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from played_engine import PlayedEngine, playing

from bench.load.asking import Endpoint
from bench.overhead.measuring import bursts, pairs, warm_up
from bench.overhead.plan import ANSWER_TOKENS, SINGLES, WARM_UP_PAIRS, Traffic
from bench.overhead.ways import Ways
from bench.streams import Unanswered

pytestmark = pytest.mark.slow


@contextmanager
def both(gateway: PlayedEngine, direct: PlayedEngine) -> Iterator[Ways]:
    with playing(gateway), playing(direct):
        yield Ways(Endpoint(gateway.url, "played"), Endpoint(direct.url, "played"), slots=4, images=True)


def contents(engine: PlayedEngine) -> list[str]:
    return [json.dumps(body["messages"]) for body in engine.asked]


def lengths(engine: PlayedEngine) -> list[int]:
    return [body["max_tokens"] for body in engine.asked]


def test_pairs_go_both_ways_one_request_at_a_time() -> None:
    gateway, direct = PlayedEngine(prompt_tokens=1), PlayedEngine(prompt_tokens=2)
    with both(gateway, direct) as ways:
        found = pairs(ways, Traffic.TEXT, 12, block=1, nonce="a run")
    assert [(through.prompt_tokens, directly.prompt_tokens) for through, directly in found] == [(1, 2)] * 12
    assert gateway.most_at_once == direct.most_at_once == 1
    assert lengths(gateway) == lengths(direct) == [ANSWER_TOKENS] * 12


def test_no_text_and_no_picture_comes_twice_so_that_no_cache_helps() -> None:
    for traffic in (Traffic.TEXT, Traffic.IMAGES):
        gateway, direct = PlayedEngine(), PlayedEngine()
        with both(gateway, direct) as ways:
            for block in (1, 2):
                for nonce in ("a run", "another run"):
                    pairs(ways, traffic, 5, block, nonce)
        asked = contents(gateway) + contents(direct)
        assert len(set(asked)) == len(asked) == 40
        assert all(("image_url" in content) == (traffic is Traffic.IMAGES) for content in asked)
        assert len({len(body["messages"][0]["content"][-1]) for body in gateway.asked + direct.asked}) == 1


def test_a_coin_decides_which_way_is_first() -> None:
    order: list[str] = []

    class Noted(PlayedEngine):
        def __init__(self, name: str) -> None:
            super().__init__()
            self.name = name

        async def _chat(self, request: Any) -> Any:
            order.append(self.name)
            return await super()._chat(request)

    with both(Noted("gateway"), Noted("direct")) as ways:
        pairs(ways, Traffic.TEXT, 12, block=1, nonce="a run")
    taken = list(zip(order[::2], order[1::2], strict=True))
    assert set(taken) == {("gateway", "direct"), ("direct", "gateway")}


def test_a_burst_is_of_other_texts_and_the_same_lengths_each_way() -> None:
    gateway, direct = PlayedEngine(prompt_tokens=1, together=9), PlayedEngine(prompt_tokens=2, together=9)
    with both(gateway, direct) as ways:
        through, directly = bursts(ways, 9, (2, 10), block=1, nonce="a run")
    assert gateway.most_at_once == direct.most_at_once == 9
    assert {answer.prompt_tokens for answer in through} == {1}
    assert {answer.prompt_tokens for answer in directly} == {2}
    wanted = [answer.output_tokens for answer in through]
    assert wanted == [answer.output_tokens for answer in directly]
    assert sorted(wanted) == list(range(2, 11)) != wanted
    assert not set(contents(gateway)) & set(contents(direct))


@pytest.mark.parametrize(("block", "first"), [(1, "gateway"), (2, "direct")])
def test_bursts_take_turns_at_being_first(block: int, first: str) -> None:
    gateway, direct = PlayedEngine(), PlayedEngine(status=503)
    with both(gateway, direct) as ways, pytest.raises(Unanswered, match="no room"):
        bursts(ways, 2, (2, 2), block, nonce="a run")
    assert (len(gateway.asked) > 0) == (first == "gateway")  # a failure ends it, before the other way if it comes first


@pytest.mark.parametrize(
    ("gateway", "message"),
    [
        (PlayedEngine(status=503), "no room"),
        (PlayedEngine(missing=1), f"gave {ANSWER_TOKENS - 1} of"),
    ],
)
def test_an_answer_that_is_not_complete_ends_it(gateway: PlayedEngine, message: str) -> None:
    with both(gateway, PlayedEngine()) as ways, pytest.raises(Unanswered, match=message):
        pairs(ways, Traffic.TEXT, 1, block=1, nonce="a run")


@pytest.mark.parametrize("traffic", list(Traffic))
def test_both_ways_are_warmed_up_by_their_own_traffic(traffic: Traffic) -> None:
    gateway, direct = PlayedEngine(), PlayedEngine()
    with both(gateway, direct) as ways:
        warm_up(ways, traffic, 7, "a run")
    assert len(gateway.asked) == len(direct.asked) == (WARM_UP_PAIRS if traffic in SINGLES else 7)
    assert all(("image_url" in content) == (traffic is Traffic.IMAGES) for content in contents(gateway))
    assert max(lengths(gateway)) < ANSWER_TOKENS
