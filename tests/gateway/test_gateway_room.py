"""What requests may take of a gateway before the scheduler hears of them, and how API keys share it."""

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

import gateway_fakes
import pytest
from gateway_fakes import FACTS, Cluster, chat_body, data_url, hangs, png

from chiasm.gateway import app, reading
from chiasm.gateway.errors import ApiError
from chiasm.gateway.media import ImageFile, decode
from chiasm.gateway.parsing import Draft, parse_chat
from chiasm.gateway.shares import Shares, Threads, Turns
from chiasm.messages import Submit

pytestmark = pytest.mark.slow

COLORS = ("red", "green", "blue", "black")
IMAGES = {color: data_url(png(color)) for color in COLORS}
PIXELS = 56 * 28  # of each


def test_a_tenant_gets_no_more_than_it_leaves_free() -> None:
    shares = Shares(120, "full")
    with ExitStack() as stack:
        ours, ours_too, theirs, another = (stack.enter_context(shares.share(tenant)) for tenant in "aabc")
        ours(40)
        ours_too(20)
        for take in (ours, ours_too):
            with pytest.raises(ApiError, match="full"):
                take(1)
        theirs(30)
        with pytest.raises(ApiError):
            theirs(1)
        another(15)  # however busy the others are
    with shares.share("c") as take:
        take(60)


async def test_turns_go_round_among_tenants() -> None:
    turns = Turns(1)
    had: list[str] = []

    async def wait(tenant: str, name: str) -> None:
        async with turns.turn(tenant):
            had.append(name)

    async with turns.turn("a"):
        waiting = [asyncio.create_task(wait(name[0], name)) for name in ("a1", "a2", "a3", "b1", "b2", "c1")]
        await asyncio.sleep(0)
        waiting[3].cancel()
        await asyncio.wait([waiting[3]])
    await asyncio.wait(waiting)
    assert had == ["a1", "b2", "c1", "a2", "a3"]


async def test_a_turn_that_comes_as_its_tenant_leaves_goes_to_the_next() -> None:
    turns = Turns(1)

    async def wait() -> None:
        async with turns.turn("a"):
            pass

    async with turns.turn("a"):
        leaving, staying = asyncio.create_task(wait()), asyncio.create_task(wait())
        await asyncio.sleep(0)
    leaving.cancel()  # the turn is given already, and not yet taken
    async with asyncio.timeout(10):
        await staying
    assert leaving.cancelled()


@pytest.mark.parametrize("fails", [False, True])
async def test_work_that_goes_on_keeps_what_it_was_given(gate: threading.Semaphore, fails: bool) -> None:
    """Though whoever wanted it has left."""
    shares, threads, began = Shares(2, "full"), Threads(1, "test"), asyncio.Event()
    loop = asyncio.get_running_loop()

    def work() -> None:
        loop.call_soon_threadsafe(began.set)
        assert gate.acquire(timeout=10)
        assert not fails

    async def wants() -> None:
        with shares.share("a") as take:
            take(1)
            await threads.run("a", work)

    leaving = asyncio.create_task(wants())
    await began.wait()
    for _ in range(2):
        leaving.cancel()
        await asyncio.wait([leaving], timeout=0.1)
        with shares.share("a") as take, pytest.raises(ApiError):
            take(1)
    gate.release()
    async with asyncio.timeout(10):
        await asyncio.wait([leaving])
    assert leaving.cancelled()
    with shares.share("a") as take:
        take(1)
    threads.close()


def key(name: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {name}"}


async def ask(cluster: Cluster, who: str, body: dict[str, Any]) -> tuple[int, Any, Any]:
    async with cluster.client.post("/v1/chat/completions", json=body, headers=key(who)) as answer:
        return answer.status, await answer.json(), answer.headers


BODIES = {
    "large": (1 << 20, 0, chat_body(text="x" * 900_000)),
    "many": (reading.LEAST_BYTES, 0, chat_body()),
    "large when decoded": (1 << 16, 128, chat_body(x=[{}] * 2000)),
}


@pytest.mark.parametrize(("limit", "value_bytes", "body"), BODIES.values(), ids=BODIES)
async def test_beyond_its_room_a_key_is_sent_away_until_there_is_some(
    make_cluster: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
    limit: int,
    value_bytes: int,
    body: dict[str, Any],
) -> None:
    monkeypatch.setattr(reading, "MAX_VALUE_SIGNS", 1)  # but as many as two contexts of the model
    monkeypatch.setattr(reading, "VALUE_BYTES", value_bytes)
    cluster = await make_cluster(max_body_bytes=limit, max_held_bytes=4 * limit, api_keys=["a", "b"])
    async with asyncio.timeout(10):
        asking = []
        for _ in range(2):
            seen = asyncio.Event()
            cluster.decoders[0].behaviours.append(hangs(seen))
            asking.append(asyncio.create_task(ask(cluster, "a", body)))
            await seen.wait()
        status, answer, headers = await ask(cluster, "a", body)
        assert (status, answer["error"]["code"], headers["Retry-After"]) == (429, "gateway_full", "5")
        assert "bytes of requests" in answer["error"]["message"]
        assert len(cluster.scheduler.of(Submit)) == 2
        assert 'chiasm_requests_total{outcome="gateway_full"} 1.0' in await cluster.metrics()
        assert (await ask(cluster, "b", body))[0] == 200
        for each in asking:
            each.cancel()
        await cluster.decoders[0].aborted.wait()
        while (await ask(cluster, "a", body))[0] != 200:
            pass


@pytest.mark.parametrize(("limit", "prompt"), [(1 << 20, [12345] * 17_000), (1000, "a")])
async def test_what_is_allowed_in_one_request_finds_room_in_an_idle_gateway(
    make_cluster: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, limit: int, prompt: Any
) -> None:
    monkeypatch.setattr(gateway_fakes, "FACTS", replace(FACTS, max_model_len=20_000))
    cluster = await make_cluster(max_body_bytes=limit, max_held_bytes=4 * limit)
    async with cluster.client.post("/v1/completions", json={"prompt": prompt}) as answer:
        assert answer.status == 200


@pytest.fixture
def gate() -> Iterator[threading.Semaphore]:
    gate = threading.Semaphore(0)
    yield gate
    gate.release(100)


@pytest.fixture
def held_back(monkeypatch: pytest.MonkeyPatch, gate: threading.Semaphore) -> threading.Semaphore:
    """As many images are decoded as are let go."""

    def held(file: ImageFile) -> None:
        assert gate.acquire(timeout=10)
        decode(file)

    monkeypatch.setattr(reading, "decode", held)
    return gate


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> asyncio.Queue[str]:
    """The tenants that want something done that is held back, in order."""
    asked: asyncio.Queue[str] = asyncio.Queue()

    class Watched(Threads):
        async def run(self, tenant: str, work: Callable[..., Any], *arguments: Any) -> Any:
            if work.__name__ == "held":
                asked.put_nowait(tenant)
            return await super().run(tenant, work, *arguments)

    monkeypatch.setattr(reading, "Threads", Watched)
    return asked


async def test_only_so_many_pixels_wait_to_be_decoded(
    make_cluster: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
    held_back: threading.Semaphore,
    asked: asyncio.Queue[str],
) -> None:
    monkeypatch.setattr(reading, "PIXELS_AT_ONCE", 4 * PIXELS)
    cluster = await make_cluster(max_items=1, max_item_pixels=PIXELS, api_keys=["a", "b"])
    async with asyncio.timeout(10):
        waiting = [asyncio.create_task(ask(cluster, "a", chat_body(IMAGES[color]))) for color in COLORS[:2]]
        await asked.get()
        await asked.get()
        status, answer, headers = await ask(cluster, "a", chat_body(IMAGES["blue"]))
        assert (status, answer["error"]["code"], headers["Retry-After"]) == (429, "gateway_full", "5")
        assert "images wait" in answer["error"]["message"]
        waiting.append(asyncio.create_task(ask(cluster, "b", chat_body(IMAGES["blue"]))))
        await asked.get()
        held_back.release(4)
        assert [(await each)[0] for each in waiting] == [200] * 3
        assert (await ask(cluster, "a", chat_body(IMAGES["black"])))[0] == 200


async def test_the_images_of_one_key_do_not_keep_anothers_waiting(
    make_cluster: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
    held_back: threading.Semaphore,
    asked: asyncio.Queue[str],
) -> None:
    monkeypatch.setattr(reading, "THREADS", 1)
    cluster = await make_cluster(api_keys=["a", "b"])
    async with asyncio.timeout(10):
        many = []
        for color in COLORS:
            many.append(asyncio.create_task(ask(cluster, "a", chat_body(IMAGES[color]))))
            await asked.get()
        one = asyncio.create_task(ask(cluster, "b", chat_body(IMAGES["red"])))
        await asked.get()
        held_back.release(3)  # the one that is at it, the next of the same key, and then it is the other's turn
        assert (await one)[0] == 200
        assert not many[-1].done()
        held_back.release(2)
        assert [(await each)[0] for each in many] == [200] * 4


async def test_the_bodies_of_one_key_do_not_keep_anothers_waiting(
    make_cluster: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
    gate: threading.Semaphore,
    asked: asyncio.Queue[str],
) -> None:
    def held(*arguments: Any) -> Draft:
        assert gate.acquire(timeout=10)
        return parse_chat(*arguments)

    monkeypatch.setattr(app, "parse_chat", held)
    monkeypatch.setattr(reading, "THREADS", 1)
    cluster = await make_cluster(api_keys=["a", "b"])
    async with asyncio.timeout(10):
        many = []
        for _ in range(4):
            many.append(asyncio.create_task(ask(cluster, "a", chat_body())))
            await asked.get()
        one = asyncio.create_task(ask(cluster, "b", chat_body()))
        await asked.get()
        gate.release(3)  # the one that is at it, the next of the same key, and then it is the other's turn
        assert (await one)[0] == 200
        assert not many[-1].done()
        gate.release(2)
        assert [(await each)[0] for each in many] == [200] * 4


async def test_load_generators_find_room(cluster: Cluster) -> None:
    image = data_url(png(size=(1024, 1024)))
    async with asyncio.timeout(60):
        answers = await asyncio.gather(*(cluster.chat(chat_body(image, IMAGES["red"])) for _ in range(32)))
    assert {status for status, *_ in answers} == {200}
