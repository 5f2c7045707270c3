"""The gateway's parts that have laws of their own: identity, the reading of streams, the link."""

import asyncio
import itertools
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from gateway_fakes import ERROR, HEARTBEAT_S, OPENING, USAGE, chunk, events
from hypothesis import given, settings
from hypothesis import strategies as st

from chiasm.gateway import link, sse
from chiasm.gateway.bodies import completion_tokens, error_message
from chiasm.gateway.identity import item_uuid
from chiasm.gateway.link import SchedulerLink
from chiasm.gateway.sse import EventTooLong, Tally, whole_events
from chiasm.messages import Alive, Cancel, Forgotten, Join, Reject, RejectReason
from chiasm.nouns import RequestId


def test_everything_that_shapes_an_embedding_is_part_of_its_identity() -> None:
    facts: tuple[str, str, bytes, dict[str, Any]] = ("scope", "revision", b"media", {"a": 1, "b": {"c": 2, "d": 3}})
    uuid = item_uuid(*facts)
    assert len(uuid) == 64
    assert int(uuid, 16) >= 0
    assert uuid == item_uuid("scope", "revision", b"media", {"b": {"d": 3, "c": 2}, "a": 1})
    others = [
        ("other", *facts[1:]),
        (facts[0], "other", *facts[2:]),
        (*facts[:2], b"other", facts[3]),
        (*facts[:3], {}),
    ]
    assert len({uuid, *(item_uuid(*other) for other in others)}) == 5


def test_no_field_of_an_identity_can_pass_for_part_of_another() -> None:
    assert item_uuid("ab", "c", b"", {}) != item_uuid("a", "bc", b"", {})
    assert item_uuid("a", "b", b"c", {}) != item_uuid("a", "bc", b"", {})
    assert item_uuid("a", "b", b"{}", {}) != item_uuid("a", "b", b"", {})


async def collected(pieces: list[bytes]) -> list[bytes]:
    async def chunks() -> AsyncIterator[bytes]:
        for piece in pieces:
            yield piece

    return [block async for block in whole_events(chunks())]


STREAM = events(OPENING, chunk("a\u00e9"), USAGE).replace(b"[DONE]\n\n", b"[DONE]\r\n\r\n") + b"trailing"


@settings(deadline=None)
@given(st.sets(st.integers(1, len(STREAM) - 1)))
def test_a_stream_however_cut_is_the_same_bytes_cut_between_events(cuts: set[int]) -> None:
    edges = [0, *sorted(cuts), len(STREAM)]
    blocks = asyncio.run(collected([STREAM[a:b] for a, b in itertools.pairwise(edges)]))
    assert b"".join(blocks) == STREAM
    assert all(block.endswith((b"\n\n", b"\r\n\r\n")) for block in blocks[:-1])
    assert blocks[-1].endswith(b"trailing")
    tally = Tally()
    for block in blocks:
        tally.read(block)
    assert (tally.begun, tally.complete, tally.error, tally.tokens) == (True, True, None, 7)


async def test_an_event_without_end_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sse, "MAX_EVENT_BYTES", 10)
    assert await collected([b"data: 1\n\n"] * 5) == [b"data: 1\n\n"] * 5
    with pytest.raises(EventTooLong):
        await collected([b"data: ", b"x" * 10])


def delta(**fields: Any) -> dict[str, Any]:
    return {**chunk(""), "choices": [{"index": 0, "delta": fields}]}


@pytest.mark.parametrize(
    ("event", "begun"),
    [
        (OPENING, False),
        (USAGE, False),
        (ERROR, False),
        (delta(), False),
        (delta(role="assistant", content=None), False),
        (delta(content=""), True),
        (delta(role="assistant", content="a"), True),
        (delta(reasoning="hm"), True),
        (delta(tool_calls=[{"index": 0}]), True),
        ({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}, True),
        ({"choices": [{"index": 0, "delta": {"content": ""}, "token_ids": [5]}]}, True),
        ({"choices": [{"index": 0, "text": ""}]}, True),
        ("not an event", True),
    ],
)
def test_an_answer_begins_with_its_first_token(event: Any, begun: bool) -> None:
    tally = Tally()
    tally.read(events(event, done=False))
    assert tally.begun is begun
    assert tally.error == ("Internal server error" if event is ERROR else None)
    assert not tally.complete


def test_errors_in_a_stream_may_be_worded_differently() -> None:
    tally = Tally()
    tally.read(events({"error": "broken"}))
    assert (tally.error, tally.complete) == ("broken", True)


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (json.dumps(ERROR).encode(), "Internal server error"),
        (b'{"error": "Unauthorized"}', "Unauthorized"),
        (b'{"detail": "Not Found"}', '{"detail": "Not Found"}'),
        (b"[1]", "[1]"),
        (b"oops\xff", "oops\ufffd"),
        (b"", ""),
    ],
)
def test_an_engines_error_is_quoted_as_far_as_it_has_words(answer: bytes, message: str) -> None:
    assert error_message(answer) == message


@pytest.mark.parametrize(("answer", "tokens"), [(b'{"usage": {"completion_tokens": 3}}', 3), (b"{}", 0), (b"oops", 0)])
def test_tokens_are_counted_if_the_answer_tells(answer: bytes, tokens: int) -> None:
    assert completion_tokens(answer) == tokens


class Pipe:
    def __init__(self) -> None:
        self.inbox: asyncio.Queue[Any] = asyncio.Queue()
        self.sent: list[Any] = []
        self.full = False

    def send(self, message: Any) -> bool:
        if self.full:
            return False
        self.sent.append(message)
        return True

    async def receive(self) -> Any:
        return await self.inbox.get()


def reject(request: str, detail: str = "") -> Reject:
    return Reject(RequestId(request), RejectReason.DECODE, detail)


async def test_the_link_hands_each_decision_to_its_request_alone(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(link, "DECISIONS_HELD", 2)
    pipe = Pipe()
    scheduler = SchedulerLink(pipe, HEARTBEAT_S)
    routing = asyncio.create_task(scheduler.run())
    with scheduler.open(RequestId("a")) as a, scheduler.open(RequestId("b")) as b:
        for message in (Cancel(RequestId("a")), reject("c"), reject("a", "1"), reject("a", "2"), reject("a", "3")):
            pipe.inbox.put_nowait(message)
        pipe.inbox.put_nowait(reject("b", "last"))
        assert (await asyncio.wait_for(b.get(), 10)) == reject("b", "last")
        # The third is one too many; that it was said, and that the others go on, is what counts.
        assert [a.get_nowait() for _ in range(a.qsize())] == [reject("a", "1"), reject("a", "2")]
    assert "Cancel" in caplog.text
    assert "request a has too many decisions waiting" in caplog.text
    routing.cancel()


async def test_the_link_says_that_its_gateway_lives_and_joins_again_once_when_it_is_forgotten() -> None:
    pipe = Pipe()
    scheduler = SchedulerLink(pipe, 0.001)
    running = asyncio.create_task(scheduler.run())
    with scheduler.open(RequestId("a")) as a:
        await until_sent(pipe, Alive(1))
        for _ in range(3):  # one for each heartbeat that came too late
            pipe.inbox.put_nowait(Forgotten(1))
        await until_sent(pipe, Alive(2))
        pipe.inbox.put_nowait(reject("a"))
        assert [await a.get(), await a.get()] == [Forgotten(2), reject("a")]
    assert isinstance(pipe.sent[0], Join)
    assert pipe.sent.count(pipe.sent[0]) == 2
    running.cancel()


async def test_the_link_joins_again_when_the_scheduler_may_have_missed_something() -> None:
    pipe = Pipe()
    scheduler = SchedulerLink(pipe, 0.001)
    running = asyncio.create_task(scheduler.run())
    with scheduler.open(RequestId("a")) as a:
        await until_sent(pipe, Alive(1))
        pipe.full = True
        scheduler.send(Cancel(RequestId("b")))
        pipe.full = False
        assert isinstance(await asyncio.wait_for(a.get(), 10), Forgotten)
        await until_sent(pipe, Alive(2))
    running.cancel()


async def until_sent(pipe: Pipe, message: Any) -> None:
    async with asyncio.timeout(10):
        while message not in pipe.sent:  # noqa: ASYNC110
            await asyncio.sleep(0.001)
