"""Text that an idle encoder's card has stolen, through the gateway and the scheduler's real core: an image comes, it is
given back, and the client's stream goes on elsewhere as if nothing had been.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from typing import Any

import pytest
from aiohttp import ClientResponse, ClientSession
from gateway_fakes import (
    ERROR,
    FACTS,
    HEARTBEAT_S,
    TOKEN,
    Behaviour,
    CoreChannel,
    FakeEngine,
    answers,
    chat_body,
    chunk,
    data_url,
    encodes,
    events,
    generates,
    hangs,
    png,
    replies_stream,
    running,
)
from text_engine import CHAT, COMPLETIONS, PROMPT, TextEngine, text_of, tokens_of, told

from chiasm.config import GatewayConfig, SchedulerConfig
from chiasm.explain import SENTENCES
from chiasm.gateway.app import make_app, start_gateway
from chiasm.gateway.link import SchedulerLink
from chiasm.gateway.parsing import parse_chat
from chiasm.messages import Cancel, Pause, Register, Return
from chiasm.nouns import Role, WorkerId
from scheduler.core import Core

pytestmark = pytest.mark.slow

TEXT = "a red circle, é, 😀 and 日本 "
IMAGE = chat_body(data_url(png(size=(560, 560))))
PATHS = pytest.mark.parametrize("path", [CHAT, COMPLETIONS])


def body_of(path: str, **more: Any) -> dict[str, Any]:
    asks = {"messages": [{"role": "user", "content": "hi"}]} if path == CHAT else {"prompt": "hi"}
    usual = {"model": "demo", "stream": True, "stream_options": {"include_usage": True}, "temperature": 0}
    return {**usual, "max_tokens": 100, **asks, **more}


def whole(path: str, **more: Any) -> dict[str, Any]:
    """What an engine says to that request from beginning to end."""
    return told(TextEngine(tokens_of(TEXT)).stream(path, body_of(path, **more)))


class Served:
    """An encoder with a thief on its card, and a decoder that is busy until `free`."""

    def __init__(self, channel: CoreChannel, encoder: FakeEngine, thief: FakeEngine, decoder: FakeEngine) -> None:
        self.channel = channel
        self.encoder = encoder
        self.thief = thief
        self.decoder = decoder
        self.client: ClientSession
        self.free = asyncio.Event()
        self._tasks: list[asyncio.Task[Any]] = []

    async def occupy_decoder(self) -> None:
        seen = asyncio.Event()

        async def busy(request: Any, body: Any) -> Any:
            seen.set()
            await self.free.wait()
            return await answers(request, body)

        self.decoder.behaviours.insert(0, busy)
        self.post(chat_body(seed=1))
        await seen.wait()

    def post(self, body: dict[str, Any]) -> None:
        """Sends a request whose answer nobody here looks at."""

        async def ask() -> None:
            async with self.client.post(CHAT, json=body) as answer:
                assert answer.status == 200, await answer.read()

        self._tasks.append(asyncio.create_task(ask()))

    async def stolen(self, path: str, behaviour: Behaviour, **more: Any) -> ClientResponse:
        """The stream of a text that the thief takes and answers so."""
        self.thief.behaviours = [behaviour]
        return await self.client.post(path, json=body_of(path, **more))

    def image_comes(self) -> None:
        """Its encode takes so long that the thief must give back what it has."""
        self.post(IMAGE)

    async def returned(self) -> None:
        await self.thief.aborted.wait()

    def count(self, counter: str) -> int:
        return self.channel.status.counters[counter]

    async def end(self) -> None:
        self.free.set()
        await asyncio.gather(*self._tasks)


@pytest.fixture
async def served() -> AsyncIterator[Served]:
    encoder, thief, decoder = FakeEngine(encodes), FakeEngine(answers), FakeEngine(answers)
    async with running(encoder, thief, decoder):
        channel = CoreChannel(Core(SchedulerConfig(look_ahead=0)))
        channel.send(Register(WorkerId("encoder-0"), Role.ENCODER, "n", encoder.url, 4, 0, 1.0))
        channel.send(Register(WorkerId("decoder-0"), Role.DECODER, "n", decoder.url, 1, 10_000, 100.0))
        host = WorkerId("encoder-0")
        channel.send(Register(WorkerId("thief-0"), Role.TEXT, "n", thief.url, 4, 10_000, 100.0, host=host))
        served = Served(channel, encoder, thief, decoder)
        config = GatewayConfig(port=0)
        runner = await start_gateway(make_app(FACTS, config, SchedulerLink(channel, HEARTBEAT_S), TOKEN), config)
        try:
            async with ClientSession(f"http://127.0.0.1:{runner.addresses[0][1]}") as served.client:
                await served.occupy_decoder()
                yield served
                await served.end()
        finally:
            await runner.cleanup()
        status = channel.status
        assert (status.encoding, status.withheld, status.decoding) == (0, 0, 0)
        assert all(worker.running == worker.waiting == 0 for worker in status.workers)


async def read_events(answer: ClientResponse, count: int) -> bytes:
    """The first `count` events of a stream."""
    got = b""
    while got.count(b"\n\n") < count:
        got += await answer.content.readuntil(b"\n\n")
    return got


@PATHS
@pytest.mark.parametrize("sizes", [(1,), (3, 1, 2)])
@pytest.mark.parametrize("count", [2, 5, 9, 11])
async def test_what_is_given_back_goes_on_on_a_decoder(
    served: Served, path: str, sizes: Sequence[int], count: int
) -> None:
    thief, decoder = TextEngine(tokens_of(TEXT), sizes), TextEngine(tokens_of(TEXT), name="y")
    answer = await served.stolen(path, generates(thief, count, then=asyncio.Event()))
    got = await read_events(answer, count)
    served.image_comes()
    await served.returned()
    assert {type(message) for message in served.channel.told_workers} == {Pause}
    served.decoder.behaviours = [generates(decoder)]
    served.free.set()
    assert told(got + await answer.read()) == whole(path)
    [(asked, rest)] = decoder.asked
    assert asked == COMPLETIONS
    done = rest["prompt"][len(PROMPT) :]
    assert done == tokens_of(TEXT)[: len(done)]
    assert rest["max_tokens"] == 100 - len(done)
    assert (served.count("stolen"), served.count("returned"), served.count("decode_retries")) == (1, 1, 0)
    async with served.client.get(f"/v1/chiasm/requests/{answer.headers['X-Request-Id']}/reasons") as asking:
        told_why = [reason["what"] for reason in (await asking.json())["reasons"]]
    assert told_why == ["admitted", "stolen", "asked back", "returned", "decode posted", "ended"]
    assert set(told_why) <= SENTENCES.keys()


async def test_where_tokens_came_together_their_text_is_looked_up(served: Served) -> None:
    """The last of four is half of a character."""
    tokens = tokens_of("a b é and")
    (half,) = [place for place, text in enumerate(map(text_of, ([token] for token in tokens))) if text == "\ufffd"][:1]
    thief, decoder = TextEngine(tokens, (half + 1, 1)), TextEngine(tokens)
    answer = await served.stolen(CHAT, generates(thief, 2, then=asyncio.Event()))
    got = await read_events(answer, 2)
    served.image_comes()
    await served.returned()
    served.decoder.behaviours = [generates(decoder)]
    served.free.set()
    assert told(got + await answer.read())["text"] == "a b é and"
    assert served.decoder.detokenized == [tokens[: half + 1], tokens[:half]]
    assert decoder.asked[0][1]["prompt"] == PROMPT + tokens[:half]


@PATHS
async def test_what_is_given_back_before_its_first_token_starts_again(served: Served, path: str) -> None:
    answering = asyncio.create_task(served.stolen(path, hangs(seen := asyncio.Event())))
    await seen.wait()
    served.image_comes()
    await served.returned()
    served.decoder.behaviours = [generates(decoder := TextEngine(tokens_of(TEXT)))]
    served.free.set()
    assert told(await (await answering).read()) == whole(path)
    assert decoder.asked == [(path, body_of(path))]  # no token ids: from here on it is the engine's own stream


async def test_an_answer_that_is_no_stream_starts_again(served: Served) -> None:
    answering = asyncio.create_task(
        served.stolen(CHAT, hangs(seen := asyncio.Event()), stream=False, stream_options=None)
    )
    await seen.wait()
    served.image_comes()
    await served.returned()
    served.free.set()
    answer = await (await answering).json()
    assert answer["choices"][0]["message"]["content"] == "hello"
    assert served.count("returned") == 1


@PATHS
async def test_an_answer_that_was_all_there_ends_without_another_engine(served: Served, path: str) -> None:
    """Only the usage and [DONE] had not come."""
    count = len(TextEngine(tokens_of(TEXT)).events(path, body_of(path))) - 2
    answer = await served.stolen(path, generates(TextEngine(tokens_of(TEXT)), count, then=asyncio.Event()))
    got = await read_events(answer, count)
    served.image_comes()
    await served.returned()
    assert told(got + await answer.read()) == whole(path)
    assert (served.count("returned"), served.count("done")) == (0, 1)


@PATHS
@pytest.mark.parametrize("count", [3, 9])
async def test_a_thief_that_dies_in_mid_answer_is_replaced(served: Served, path: str, count: int) -> None:
    served.decoder.behaviours = [generates(decoder := TextEngine(tokens_of(TEXT), name="y"))]
    answer = await served.stolen(path, generates(TextEngine(tokens_of(TEXT)), count, cut=True))
    got = await read_events(answer, count)
    served.free.set()
    assert told(got + await answer.read()) == whole(path)
    assert decoder.asked[0][0] == COMPLETIONS
    assert (served.count("returned"), served.count("decode_retries")) == (0, 1)


async def test_so_is_the_one_that_went_on(served: Served) -> None:
    engines = [TextEngine(tokens_of(TEXT), name=name) for name in "xyz"]
    served.decoder.behaviours = [generates(engines[1], 4), generates(engines[2])]
    answer = await served.stolen(CHAT, generates(engines[0], 4))
    served.free.set()
    assert told(await answer.read()) == whole(CHAT)
    assert [len(engine.asked) for engine in engines] == [1, 1, 1]


async def test_as_often_as_is_allowed(served: Served) -> None:
    served.decoder.behaviours = [generates(TextEngine(tokens_of(TEXT)), 4) for _ in range(2)]
    answer = await served.stolen(CHAT, generates(TextEngine(tokens_of(TEXT)), 4))
    served.free.set()
    got = await answer.read()
    assert b'"code":"attempts_exhausted"' in got
    assert got.endswith(b"data: [DONE]\n\n")
    text = "".join(json.loads(line[6:])["choices"][0]["delta"]["content"] for line in got.split(b"\n\n")[:-3])
    assert text == "a red circle, é, "  # 3 tokens behind the role, 4 of which the last is half of é, and 4 from there


async def test_an_engines_error_in_mid_answer_is_no_reason_to_go_on(served: Served) -> None:
    begun = events(chunk("", prompt_token_ids=PROMPT), chunk("a"), done=False)
    broken = replies_stream(begun, then=(read := asyncio.Event()), last=events(ERROR))
    answer = await served.stolen(CHAT, broken)
    await read_events(answer, 2)
    read.set()
    got = await answer.read()
    assert got.count(b"event: error\n") == got.count(b"Internal server error") == 1
    assert got.endswith(b"data: [DONE]\n\n")
    assert served.count("failed_decode_failed") == 1


async def test_what_no_other_engine_can_go_on_with_ends_by_name(served: Served) -> None:
    thinking = chunk("")
    thinking["choices"][0] |= {"delta": {"reasoning": "hm"}, "token_ids": [1]}
    begun = events(chunk("", prompt_token_ids=PROMPT), thinking, done=False)
    answer = await served.stolen(CHAT, replies_stream(begun, then=asyncio.Event()))
    await read_events(answer, 2)
    served.image_comes()
    error = await answer.read()
    assert b"reasoning" in error
    assert error.endswith(b"data: [DONE]\n\n")
    assert (served.count("returned"), served.count("failed_decode_failed")) == (0, 1)


async def test_a_client_that_leaves_a_stream_that_was_given_back_takes_it_along(served: Served) -> None:
    answer = await served.stolen(CHAT, generates(TextEngine(tokens_of(TEXT)), 4, then=asyncio.Event()))
    await read_events(answer, 4)
    served.image_comes()
    await served.returned()
    answer.close()
    await served.channel.heard(Cancel)
    calls = len(served.decoder.calls)
    await served.end()
    assert len(served.decoder.calls) == calls + 1  # the image's


@pytest.mark.parametrize("more", [{"seed": 1}, {"stop": ["x"]}, {"of tomorrow": 1}], ids=str)
async def test_what_could_not_go_on_elsewhere_is_not_stolen(served: Served, more: dict[str, Any]) -> None:
    served.decoder.behaviours = [generates(decoder := TextEngine(tokens_of(TEXT)))]
    served.free.set()
    async with served.client.post(CHAT, json=body_of(CHAT, **more)) as answer:
        assert told(await answer.read()) == whole(CHAT)
    assert decoder.asked == [(CHAT, body_of(CHAT, **more))]
    assert served.thief.calls == []


def test_chats_that_engines_parse_stay() -> None:
    raw = json.dumps(body_of(CHAT)).encode()
    for parsed in (False, True):
        facts = replace(FACTS, parsed_chats=parsed)
        assert parse_chat(raw, facts, GatewayConfig()).request.may_move is not parsed


async def test_a_thief_that_is_left_in_peace_sends_what_its_engine_does(served: Served) -> None:
    """Without the token ids that it was asked for besides."""
    answer = await served.stolen(CHAT, generates(thief := TextEngine(tokens_of(TEXT))))
    assert await answer.read() == TextEngine(tokens_of(TEXT)).stream(CHAT, body_of(CHAT))
    assert thief.asked[0][1]["return_token_ids"] is True
    assert not any(isinstance(message, Return) for message in served.channel.told_workers)
