"""The plan is sent as it stands in time, whatever the endpoint does."""

import asyncio
import os
import signal
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from aiohttp import web
from scripted_answers import answering, chunk, serving, stream, usage

from bench.load.answers import Answer
from bench.load.asking import Endpoint
from bench.load.driver import Planned, drive

pytestmark = pytest.mark.slow


def plan(*due_s: float) -> list[Planned]:
    return [Planned(due, f"kind {number}", {"messages": [], "place": number}) for number, due in enumerate(due_s)]


def test_answers_are_in_the_plans_order_and_each_is_sent_when_it_is_due() -> None:
    seen: list[int] = []

    async def chat(request: web.Request) -> web.StreamResponse:
        seen.append((await request.json())["place"])
        return await stream(request, [chunk("a", "stop"), usage(1, 1)])

    with serving(chat) as url:
        answers = drive(Endpoint(url, "model"), plan(0.3, 0.0, 0.15))
    assert seen == [1, 2, 0]
    assert [(answer.number, answer.kind) for answer in answers] == [(0, "kind 0"), (1, "kind 1"), (2, "kind 2")]
    assert all(answer.ok for answer in answers)
    assert all(answer.late_s >= 0 for answer in answers)
    assert answers[0].sent_s >= 0.3


def test_nobody_waits_for_the_others() -> None:
    """Two hundred, more than a client's usual limit of connections, are answered only when the last has come."""
    come: list[Any] = []
    all_there = asyncio.Event()

    async def chat(request: web.Request) -> web.StreamResponse:
        come.append(request)
        if len(come) > 200:
            all_there.set()
        await all_there.wait()
        return await stream(request, [chunk("a", "stop")])

    with serving(chat) as url:
        answers = drive(Endpoint(url, "model"), plan(*[0.0] * 200, 0.2), timeout_s=20)
    assert all(answer.ok for answer in answers)
    assert all(answer.chunks_s[0] >= 0.2 for answer in answers)


def test_so_many_at_a_time_and_the_rest_waits() -> None:
    under_way: list[int] = [0]
    most: list[int] = []

    async def chat(request: web.Request) -> web.StreamResponse:
        under_way[0] += 1
        most.append(under_way[0])
        await asyncio.sleep(0.02)
        under_way[0] -= 1
        return await stream(request, [chunk("a", "stop")])

    with serving(chat) as url:
        answers = drive(Endpoint(url, "model"), plan(*[0.0] * 12), at_a_time=3)
        assert max(most) <= 3
        drive(Endpoint(url, "model"), plan(*[0.0] * 12))
        assert max(most) > 3
    assert all(answer.ok for answer in answers)
    assert max(answer.late_s for answer in answers) > 3 * 0.02  # four at most have gone before the last


def test_who_is_sent_too_late_says_so() -> None:
    with answering(chunk("a", "stop")) as url:
        (answer,) = drive(Endpoint(url, "model"), plan(-1.0))
    assert answer.late_s >= 1.0
    assert answer.sent_s >= 0


def test_failures_do_not_disturb_the_others() -> None:
    async def chat(request: web.Request) -> web.StreamResponse:
        if (await request.json())["place"] == 1:
            return web.Response(status=500, text="broken")
        return await stream(request, [chunk("a", "stop")])

    with serving(chat) as url:
        answers = drive(Endpoint(url, "model"), plan(0.0, 0.0, 0.0))
    assert [answer.ok for answer in answers] == [True, False, True]


def test_each_answer_is_told_of_as_it_ends() -> None:
    last_told = threading.Event()
    told: list[int] = []

    def on_answer(answer: Answer) -> None:
        told.append(answer.number)
        if answer.number == 1:
            last_told.set()

    async def chat(request: web.Request) -> web.StreamResponse:
        if (await request.json())["place"] == 0:
            await asyncio.to_thread(last_told.wait, 15)
        return await stream(request, [chunk("a", "stop")])

    with serving(chat) as url:
        drive(Endpoint(url, "model"), plan(0.0, 0.0), on_answer=on_answer)
    assert told == [1, 0]


def test_an_empty_plan_has_no_answers() -> None:
    assert drive(Endpoint("http://127.0.0.1:9", "model"), []) == []


@pytest.fixture
def interruptible() -> Iterator[None]:
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_an_interrupt_ends_everything(interruptible: None) -> None:
    come: list[Any] = []
    left = threading.Semaphore(0)

    async def chat(request: web.Request) -> web.StreamResponse:
        come.append(request)
        try:
            answer = web.StreamResponse()
            await answer.prepare(request)
            await answer.write(chunk())
            if len(come) == 2:
                os.kill(os.getpid(), signal.SIGINT)
            await asyncio.Event().wait()
        finally:
            left.release()
        return answer

    with serving(chat) as url:
        with pytest.raises(KeyboardInterrupt):
            drive(Endpoint(url, "model"), plan(0.0, 0.0, 3600.0))
        assert left.acquire(timeout=15)
        assert left.acquire(timeout=15)
    assert len(come) == 2
