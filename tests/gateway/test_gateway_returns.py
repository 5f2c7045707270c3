"""Return, whenever it comes: what it is about is told exactly once, as given back, done or failed."""

import asyncio
import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import gateway_fakes
import pytest
from aiohttp import web
from aiohttp.base_protocol import BaseProtocol
from gateway_fakes import (
    FACTS,
    Cluster,
    FakeEngine,
    answers,
    chat_body,
    chunk,
    events,
    generates,
    hangs,
    replies_stream,
)
from text_engine import CHAT, PROMPT, TextEngine, tokens_of, told

from chiasm.gateway.delivery import Delivery
from chiasm.messages import (
    Cancel,
    Decode,
    DecodeDone,
    DecodeFailed,
    Reject,
    RejectReason,
    Return,
    Returned,
    Submit,
)
from chiasm.nouns import Role

pytestmark = pytest.mark.slow

TEXT = "a red circle, é"
BODY = chat_body(stream=True, max_tokens=50, temperature=0)
ENDS = (DecodeDone, DecodeFailed, Returned, Cancel)


def told_of_ends(cluster: Cluster) -> list[type]:
    """The kinds of what the scheduler was told about ends, in order."""
    return [type(message) for message in cluster.scheduler.sent if isinstance(message, ENDS)]


class Moves:
    """A scheduler that has texts decoded by the workers given, the next one whenever one is given back or fails."""

    def __init__(self, cluster: Cluster, *engines: FakeEngine, role: Role = Role.TEXT) -> None:
        self._cluster = cluster
        self._engines = list(engines)
        self._role = role
        self._count = 0
        cluster.scheduler.decide = self.decide

    def decide(self, message: Any) -> list[Any]:
        match message:
            case Submit() | Returned() | DecodeFailed(retryable=True) if self._engines:
                return [self.decode(message.request)]
        return []

    def decode(self, request: Any) -> Decode:
        engine = self._engines.pop(0)
        self._count += 1
        return Decode(request, f"worker-{self._count}", self._role, engine.url, ())

    def give_back(self, worker: int) -> Return:
        [submit] = self._cluster.scheduler.of(Submit)
        return Return(submit.request, f"worker-{worker}")


async def ask(cluster: Cluster, **more: Any) -> web.StreamResponse:
    return await cluster.client.post(CHAT, json=BODY | more)


async def test_one_behind_its_decode_finds_nothing_begun(cluster: Cluster) -> None:
    """Both are there before the gateway has turned to either."""
    moves = Moves(cluster, cluster.decoders[0], cluster.decoders[1])

    def decide(message: Any) -> list[Any]:
        decisions = moves.decide(message)
        return [*decisions, moves.give_back(1)] if isinstance(message, Submit) else decisions

    cluster.scheduler.decide = decide
    cluster.decoders[1].behaviours = [generates(TextEngine(tokens_of(TEXT)))]
    answer = await ask(cluster)
    assert told(await answer.read())["text"] == TEXT
    assert [message.output_tokens for message in cluster.scheduler.of(Returned)] == [0]
    assert cluster.decoders[0].calls == []


async def test_a_second_one_finds_it_gone(cluster: Cluster) -> None:
    moves = Moves(cluster, cluster.decoders[0], cluster.decoders[1])
    cluster.decoders[0].behaviours = [generates(TextEngine(tokens_of(TEXT)), 4, then=asyncio.Event())]
    cluster.decoders[1].behaviours = [generates(TextEngine(tokens_of(TEXT)))]
    answer = await ask(cluster)
    got = b"".join([await answer.content.readuntil(b"\n\n") for _ in range(4)])
    cluster.scheduler.push(moves.give_back(1), moves.give_back(1))
    assert told(got + await answer.read())["text"] == TEXT
    assert told_of_ends(cluster) == [Returned, DecodeDone]


async def test_one_for_another_worker_changes_nothing(cluster: Cluster) -> None:
    moves = Moves(cluster, cluster.decoders[0])
    rest = asyncio.Event()

    async def in_two_parts(request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        pieces = TextEngine(tokens_of(TEXT)).events(request.path, body)
        return await replies_stream(*pieces[:4], then=rest, last=b"".join(pieces[4:]))(request, body)

    cluster.decoders[0].behaviours = [in_two_parts]
    answer = await ask(cluster)
    got = b"".join([await answer.content.readuntil(b"\n\n") for _ in range(4)])
    cluster.scheduler.push(moves.give_back(9))
    rest.set()
    assert told(got + await answer.read())["text"] == TEXT
    assert told_of_ends(cluster) == [DecodeDone]


async def test_from_one_thief_to_the_next_and_again(cluster: Cluster) -> None:
    """Each tells of the tokens that it has generated itself, and none is lost or generated twice."""
    thieves = [FakeEngine(answers) for _ in range(2)]
    for thief in thieves:
        await thief.start()
    try:
        engines = [TextEngine(tokens_of(TEXT), name=name) for name in "xyz"]
        moves = Moves(cluster, *thieves, cluster.decoders[0])
        thieves[0].behaviours = [generates(engines[0], 3, then=asyncio.Event())]  # the role, and 2 tokens
        thieves[1].behaviours = [generates(engines[1], 1, then=asyncio.Event())]
        cluster.decoders[0].behaviours = [generates(engines[2])]
        answer = await ask(cluster)
        got = b"".join([await answer.content.readuntil(b"\n\n") for _ in range(3)])
        cluster.scheduler.push(moves.give_back(1))
        got += await answer.content.readuntil(b"\n\n")
        cluster.scheduler.push(moves.give_back(2))
        expected = told(TextEngine(tokens_of(TEXT)).stream(CHAT, BODY))
        assert told(got + await answer.read()) == expected
    finally:
        for thief in thieves:
            await thief.stop()
    assert [message.output_tokens for message in cluster.scheduler.of(Returned)] == [2, 1]
    assert [engine.asked[0][1].get("prompt") for engine in engines[1:]] == [
        PROMPT + tokens_of(TEXT)[:2],
        PROMPT + tokens_of(TEXT)[:3],
    ]
    [done] = cluster.scheduler.of(DecodeDone)
    assert (done.worker, done.output_tokens) == ("worker-3", len(tokens_of(TEXT)) + 1 - 3)


async def test_what_it_moves_is_no_longer_than_engines_allow(
    make_cluster: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gateway_fakes, "FACTS", replace(FACTS, longest_answer=5))
    cluster = await make_cluster()
    moves = Moves(cluster, cluster.decoders[0], cluster.decoders[1])
    cluster.decoders[0].behaviours = [generates(TextEngine(tokens_of(TEXT)), 3, then=asyncio.Event())]
    cluster.decoders[1].behaviours = [generates(TextEngine(tokens_of(TEXT)))]
    answer = await ask(cluster)
    got = b"".join([await answer.content.readuntil(b"\n\n") for _ in range(3)])
    cluster.scheduler.push(moves.give_back(1))
    end = told(got + await answer.read())
    assert (cluster.decoders[1].calls[0].body["max_tokens"], end["reasons"]) == (3, ["length"])


async def test_back_from_a_second_thief_that_has_not_begun(cluster: Cluster) -> None:
    moves = Moves(cluster, cluster.decoders[0], cluster.encoders[0], cluster.decoders[1])

    def decide(message: Any) -> list[Any]:
        decisions = moves.decide(message)
        first = isinstance(message, Returned) and message.worker == "worker-1"
        return [*decisions, moves.give_back(2)] if first else decisions

    cluster.scheduler.decide = decide
    cluster.decoders[0].behaviours = [generates(TextEngine(tokens_of(TEXT)), 3, then=asyncio.Event())]
    cluster.decoders[1].behaviours = [generates(TextEngine(tokens_of(TEXT)))]
    answer = await ask(cluster)
    got = b"".join([await answer.content.readuntil(b"\n\n") for _ in range(3)])
    cluster.scheduler.push(moves.give_back(1))
    assert told(got + await answer.read())["text"] == TEXT
    assert [message.output_tokens for message in cluster.scheduler.of(Returned)] == [2, 0]


async def test_one_for_what_is_done_is_too_late(cluster: Cluster) -> None:
    moves = Moves(cluster, cluster.decoders[0])
    cluster.decoders[0].behaviours = [generates(TextEngine(tokens_of(TEXT)))]
    usual = cluster.scheduler.decide
    cluster.scheduler.decide = lambda message: (
        [moves.give_back(1)] if isinstance(message, DecodeDone) else usual(message)
    )
    answer = await ask(cluster)
    assert told(await answer.read())["text"] == TEXT
    assert told_of_ends(cluster) == [DecodeDone]


async def test_one_for_what_has_failed_is_too_late(cluster: Cluster) -> None:
    moves = Moves(cluster, cluster.decoders[0], cluster.decoders[1])
    cluster.decoders[0].behaviours = [generates(TextEngine(tokens_of(TEXT)), 4)]
    cluster.decoders[1].behaviours = [generates(TextEngine(tokens_of(TEXT)))]
    usual = cluster.scheduler.decide

    def decide(message: Any) -> list[Any]:
        return [moves.give_back(1), *usual(message)] if isinstance(message, DecodeFailed) else usual(message)

    cluster.scheduler.decide = decide
    answer = await ask(cluster)
    assert told(await answer.read())["text"] == TEXT
    assert told_of_ends(cluster) == [DecodeFailed, DecodeDone]


async def test_a_client_that_leaves_meanwhile_is_the_last_word(cluster: Cluster) -> None:
    moves = Moves(cluster, cluster.decoders[0])
    cluster.decoders[0].behaviours = [generates(TextEngine(tokens_of(TEXT)), 4, then=asyncio.Event())]
    answer = await ask(cluster)
    await answer.content.readuntil(b"\n\n")
    cluster.scheduler.push(moves.give_back(1))
    await cluster.scheduler.wait_for(Returned)
    answer.close()
    await cluster.scheduler.wait_for(Cancel)
    assert told_of_ends(cluster) == [Returned, Cancel]


async def test_what_waits_for_its_next_worker_can_still_be_rejected(cluster: Cluster) -> None:
    moves = Moves(cluster, cluster.decoders[0])
    cluster.decoders[0].behaviours = [generates(TextEngine(tokens_of(TEXT)), 4, then=asyncio.Event())]
    answer = await ask(cluster)
    got = b"".join([await answer.content.readuntil(b"\n\n") for _ in range(4)])
    cluster.scheduler.push(moves.give_back(1))
    returned = await cluster.scheduler.wait_for(Returned)
    cluster.scheduler.push(Reject(returned.request, RejectReason.DEADLINE, "late"))
    error, done, _ = (await answer.read()).split(b"\n\n")
    assert json.loads(error.split(b"data: ")[1])["error"]["code"] == "deadline_exceeded"
    assert (done, got.count(b"[DONE]")) == (b"data: [DONE]", 0)
    assert told_of_ends(cluster) == [Returned]


async def test_a_client_that_reads_slowly_is_not_taken_for_one_that_has_left(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its engine is stopped in the middle of a write, which is no sign that the client does not read."""
    stuck = asyncio.Event()
    pause = BaseProtocol.pause_writing
    monkeypatch.setattr(BaseProtocol, "pause_writing", lambda self: (stuck.set(), pause(self))[1])
    moves = Moves(cluster, cluster.decoders[0])
    long = chunk("x" * 200_000)
    long["choices"][0]["token_ids"] = [1]
    flood = [events(long, done=False)] * 200
    opening = events(chunk("", prompt_token_ids=PROMPT), done=False)
    cluster.decoders[0].behaviours = [replies_stream(opening, *flood, then=asyncio.Event())]
    answer = await ask(cluster)
    await stuck.wait()
    cluster.scheduler.push(moves.give_back(1))
    returned = await cluster.scheduler.wait_for(Returned)
    cluster.scheduler.push(Reject(returned.request, RejectReason.DEADLINE, "late"))
    end = (await answer.read())[-1000:]
    assert b"\n\nevent: error\n" in end


async def test_a_stream_that_nobody_kept_account_of_cannot_be_given_back(cluster: Cluster) -> None:
    """That of an ordinary decoder: no such Return comes, and if one did, the client would be told."""
    moves = Moves(cluster, cluster.decoders[0], role=Role.DECODER)
    text = TextEngine(tokens_of(TEXT))
    cluster.decoders[0].behaviours = [generates(text, 4, then=asyncio.Event())]
    answer = await ask(cluster)
    got = b"".join([await answer.content.readuntil(b"\n\n") for _ in range(4)])
    cluster.scheduler.push(moves.give_back(1))
    assert b'"code":"decode_failed"' in await answer.read()
    assert got == b"".join(TextEngine(tokens_of(TEXT)).events(CHAT, BODY)[:4])
    assert "return_token_ids" not in text.asked[0][1]
    assert [failed.retryable for failed in cluster.scheduler.of(DecodeFailed)] == [False]


@pytest.mark.parametrize("status", [400, 500, 503])
async def test_an_engine_that_refuses_to_go_on_has_failed(cluster: Cluster, status: int) -> None:
    """Its refusal cannot be the answer: that has begun."""
    moves = Moves(cluster, cluster.decoders[0], cluster.decoders[1])
    cluster.decoders[0].behaviours = [generates(TextEngine(tokens_of(TEXT)), 4, then=asyncio.Event())]

    async def refuses(request: web.Request, body: dict[str, Any]) -> web.Response:
        return web.json_response({"error": {"message": "no"}}, status=status)

    cluster.decoders[1].behaviours = [refuses]
    answer = await ask(cluster)
    got = b"".join([await answer.content.readuntil(b"\n\n") for _ in range(4)])
    cluster.scheduler.push(moves.give_back(1))
    failed = await cluster.scheduler.wait_for(DecodeFailed)
    assert failed.retryable == (status != 500)
    if failed.retryable:
        cluster.scheduler.push(Reject(failed.request, RejectReason.ATTEMPTS, failed.reason))
    got += await answer.read()
    assert got.count(b"event: error\n") == got.count(b"[DONE]") == 1


async def test_an_engine_that_cannot_tell_the_text_of_tokens_has_failed_and_another_is_asked(cluster: Cluster) -> None:
    moves = Moves(cluster, cluster.decoders[0], cluster.encoders[0], cluster.decoders[1])
    cluster.encoders[0].report = b"nonsense"
    cluster.decoders[0].behaviours = [generates(TextEngine(tokens_of(TEXT), (3,)), 2, then=asyncio.Event())]
    cluster.decoders[1].behaviours = [generates(TextEngine(tokens_of(TEXT)))]
    answer = await ask(cluster)
    got = b"".join([await answer.content.readuntil(b"\n\n") for _ in range(2)])
    cluster.scheduler.push(moves.give_back(1))
    assert told(got + await answer.read())["text"] == TEXT
    assert told_of_ends(cluster) == [Returned, DecodeFailed, DecodeDone]
    assert len(cluster.encoders[0].detokenized) == len(cluster.decoders[1].detokenized) == 1


async def test_the_line_lets_it_through_and_nothing_else(cluster: Cluster, caplog: pytest.LogCaptureFixture) -> None:
    seen = asyncio.Event()
    moves = Moves(cluster, cluster.decoders[0], cluster.decoders[1])
    cluster.decoders[0].behaviours = [hangs(seen)]
    asking = asyncio.create_task(ask(cluster))
    await seen.wait()
    cluster.scheduler.push(moves.give_back(1), cluster.scheduler.of(Submit)[0])
    answer = await asking
    assert (await answer.read()).endswith(events())
    assert "the scheduler sent Submit" in caplog.text


async def test_what_was_given_back_in_mid_write_goes_on_when_its_client_reads_again(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    stuck, usual = asyncio.Event(), BaseProtocol.pause_writing

    def pause_writing(self: BaseProtocol) -> None:
        stuck.set()
        usual(self)

    monkeypatch.setattr(BaseProtocol, "pause_writing", pause_writing)
    goes_on, write = asyncio.Event(), Delivery.write

    async def writing(self: Delivery, written: bytes, **how: Any) -> None:
        if b"y" * 1000 in written:
            goes_on.set()
        await write(self, written, **how)

    monkeypatch.setattr(Delivery, "write", writing)
    moves = Moves(cluster, cluster.decoders[0], cluster.decoders[1])
    long = chunk("x" * 200_000)
    long["choices"][0]["token_ids"] = [1]
    opening = events(chunk("", prompt_token_ids=PROMPT), done=False)
    cluster.decoders[0].behaviours = [replies_stream(opening, *[events(long, done=False)] * 40, then=asyncio.Event())]
    rest = {"id": "c", "object": "text_completion", "created": 1, "model": "demo"}
    going_on = {"index": 0, "text": "y" * 200_000, "token_ids": [1], "finish_reason": None}
    ending = {"index": 0, "text": "z", "token_ids": [2], "finish_reason": "stop"}
    cluster.decoders[1].behaviours = [
        replies_stream(events({**rest, "choices": [going_on]}, done=False), events({**rest, "choices": [ending]}))
    ]
    async with asyncio.timeout(20):
        answer = await cluster.client.post("/v1/chat/completions", json=BODY)
        await stuck.wait()
        cluster.scheduler.push(moves.give_back(1))
        await goes_on.wait()
        for _ in range(10):
            await asyncio.sleep(0)  # so that the write is where it has to wait for the client
        received = await answer.read()
        await cluster.scheduler.wait_for(DecodeDone)
    assert received.rstrip().endswith(b"data: [DONE]")
    assert received.count(b'"z"') == 1
