"""Under what a request is counted that never gets as far as the scheduler: the client's fault, or whose it is."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from gateway_fakes import Cluster, chat_body, data_url, png
from image_origin import Making, Origin, answering

from chiasm.gateway import reading

IMAGE = data_url(png())


async def count(cluster: Cluster, outcome: str) -> bool:
    """Whether exactly one request has been counted, and under `outcome`."""
    lines = [line for line in (await cluster.metrics()).splitlines() if line.startswith("chiasm_requests_total")]
    return lines == [f'chiasm_requests_total{{outcome="{outcome}"}} 1.0']


async def test_a_bad_request_counts_as_invalid(cluster: Cluster) -> None:
    assert (await cluster.chat({}))[0] == 400
    assert await count(cluster, "invalid")


@pytest.mark.parametrize(("status", "outcome"), [(503, "media_fetch_failed"), (404, "invalid")])
async def test_a_dead_host_of_images_counts_as_such(make: Making, origin: Origin, status: int, outcome: str) -> None:
    origin.answer = answering(status)
    cluster = await make()
    assert (await cluster.chat(chat_body(origin.url())))[0] == (424 if status == 503 else 400)
    assert await count(cluster, outcome)


async def test_a_deadline_before_the_submission_counts_as_one(
    make_cluster: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def never(*_: Any) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(reading.Threads, "run", never)
    cluster = await make_cluster(request_timeout_s=0.2)
    status, answer, _ = await cluster.chat(chat_body())
    assert (status, answer["error"]["message"][:42]) == (504, "The request could not be read in time. Try")
    assert await count(cluster, "deadline_exceeded")


async def test_a_fault_of_the_gateways_own_counts_as_one(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def breaks(*_: Any) -> None:
        raise RuntimeError("secret detail")

    monkeypatch.setattr(reading, "identify", breaks)
    status, answer, _ = await cluster.chat(chat_body(IMAGE))
    assert (status, answer["error"]["code"]) == (500, "internal_error")
    assert "secret detail" in caplog.text
    assert await count(cluster, "internal_error")
