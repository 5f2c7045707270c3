"""What Prometheus finds at a gateway: whom to scrape, the scheduler's page, and those of the engines."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from gateway_fakes import TOKEN, Cluster

from chiasm.gateway.upstream import Page, Upstream
from chiasm.gateway.views import scraping
from chiasm.messages import WorkerStatus
from chiasm.nouns import Role, WorkerId


def registered(cluster: Cluster, name: str = "decoder-0", role: Role = Role.DECODER, url: str = "") -> None:
    url = url or cluster.decoders[0].url
    cluster.scheduler.workers += (WorkerStatus(WorkerId(name), role, "n", url, 1, 0, 4, 4096, 80.0, 0),)


async def get(cluster: Cluster, path: str, **headers: str) -> tuple[int, Any]:
    async with cluster.client.get(path, headers=headers) as answer:
        is_json = answer.content_type == "application/json"
        return answer.status, await answer.json() if is_json else await answer.text()


async def test_the_targets_are_all_that_have_metrics_where_the_gateway_was_asked(cluster: Cluster) -> None:
    registered(cluster, "encoder-0", Role.ENCODER)
    registered(cluster, "encoder-0-text", Role.TEXT)
    registered(cluster, "whole-0", Role.WHOLE)
    status, groups = await get(cluster, "/metrics/targets", Host="chiasm.example:9000")
    assert status == 200
    assert all(group["targets"] == ["chiasm.example:9000"] for group in groups)
    assert [tuple(group["labels"].values()) for group in groups] == [
        ("/metrics", "gateway", "gateway"),
        ("/metrics/scheduler", "scheduler", "scheduler"),
        ("/metrics/workers/encoder-0", "encoder", "encoder-0"),
        ("/metrics/workers/encoder-0-text", "text", "encoder-0-text"),
        ("/metrics/workers/whole-0", "whole", "whole-0"),
    ]
    assert groups[0]["labels"].keys() == {"__metrics_path__", "pool", "worker"}


async def test_every_target_answers(cluster: Cluster) -> None:
    registered(cluster)
    cluster.decoders[0].page = b"vllm:num_requests_running 1.0\n"
    _, groups = await get(cluster, "/metrics/targets")
    for group in groups:
        status, page = await get(cluster, group["labels"]["__metrics_path__"])
        assert status == 200
        assert ("chiasm_" in page) == (group["labels"]["pool"] in ("gateway", "scheduler"))


async def test_an_engines_page_is_its_own_and_asked_for_with_the_clusters_token(cluster: Cluster) -> None:
    registered(cluster)
    cluster.decoders[0].page = b"vllm:num_requests_running 1.0\n"
    async with cluster.client.get("/metrics/workers/decoder-0") as answer:
        assert await answer.read() == cluster.decoders[0].page
        assert answer.headers["Content-Type"] == "text/plain; version=0.0.4"
    [headers] = cluster.decoders[0].page_asked
    assert headers["Authorization"] == f"Bearer {TOKEN}"


async def test_the_schedulers_page_is_made_of_its_status(cluster: Cluster) -> None:
    registered(cluster)
    status, page = await get(cluster, "/metrics/scheduler")
    assert status == 200
    assert 'chiasm_worker_running{pool="decoder",worker="decoder-0"} 1.0' in page
    assert "chiasm_scheduler_submitted_total 0.0" in page


async def test_a_worker_that_is_not_registered_has_no_page(cluster: Cluster) -> None:
    registered(cluster)
    status, answer = await get(cluster, "/metrics/workers/decoder-1")
    assert (status, answer["error"]["code"]) == (404, "unknown_worker")
    assert "/metrics/targets" in answer["error"]["message"]


async def test_an_engine_that_is_gone_is_named(cluster: Cluster) -> None:
    registered(cluster, url="http://127.0.0.1:9")
    status, answer = await get(cluster, "/metrics/workers/decoder-0")
    assert (status, answer["error"]["code"]) == (502, "engine_failed")
    assert "decoder-0 gave no page: no connection" in answer["error"]["message"]
    assert "127.0.0.1" not in answer["error"]["message"]


async def test_an_engine_without_a_page_is_named(cluster: Cluster) -> None:
    registered(cluster)
    status, answer = await get(cluster, "/metrics/workers/decoder-0")
    assert (status, answer["error"]["code"]) == (502, "engine_failed")
    assert "HTTP 404 from /metrics" in answer["error"]["message"]


async def test_a_page_is_bounded(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scraping, "MAX_PAGE_BYTES", 100)
    registered(cluster)
    cluster.decoders[0].page = 100 * b"x"
    assert (await get(cluster, "/metrics/workers/decoder-0"))[0] == 200
    cluster.decoders[0].page = 101 * b"x"
    status, answer = await get(cluster, "/metrics/workers/decoder-0")
    assert (status, answer["error"]["code"]) == (502, "engine_failed")
    assert "more than 100 bytes" in answer["error"]["message"]


async def test_an_engine_that_does_not_answer_is_waited_for_no_longer_than_a_scrape(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scraping, "PAGE_TIMEOUT_S", 0.05)
    registered(cluster)
    cluster.decoders[0].page, cluster.decoders[0].page_held = b"", asyncio.Event()
    status, answer = await get(cluster, "/metrics/workers/decoder-0")
    assert (status, answer["error"]["code"]) == (504, "engine_timeout")
    assert "decoder-0 did not answer" in answer["error"]["message"]


@pytest.mark.parametrize("page", ["targets", "scheduler", "workers/decoder-0"])
async def test_a_silent_scheduler_is_named(cluster: Cluster, monkeypatch: pytest.MonkeyPatch, page: str) -> None:
    monkeypatch.setattr("chiasm.gateway.asking.TIMEOUT_S", 0.01)
    monkeypatch.setattr(scraping, "SCHEDULER_TIMEOUT_S", 0.01)
    cluster.scheduler.decide = lambda message: []
    status, answer = await get(cluster, f"/metrics/{page}")
    assert status == 503
    assert "The scheduler does not answer" in answer["error"]["message"]


async def test_engines_are_where_they_were_while_the_scheduler_is_silent(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    registered(cluster)
    cluster.decoders[0].page = b"vllm:num_requests_running 1.0\n"
    assert (await get(cluster, "/metrics/workers/decoder-0"))[0] == 200
    monkeypatch.setattr(scraping, "SCHEDULER_TIMEOUT_S", 0.01)
    decide, cluster.scheduler.decide = cluster.scheduler.decide, lambda message: []
    assert (await get(cluster, "/metrics/workers/decoder-0"))[0] == 200
    assert (await get(cluster, "/metrics/workers/decoder-1"))[0] == 503
    cluster.scheduler.decide, cluster.scheduler.workers = decide, ()
    monkeypatch.setattr(scraping, "SCHEDULER_TIMEOUT_S", 5.0)
    assert (await get(cluster, "/metrics/workers/decoder-0"))[0] == 404  # it says so itself


async def test_one_deadline_is_for_the_scheduler_and_the_engine(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Prometheus waits ten seconds, and is to hear what was the matter."""
    left: list[float] = []

    async def page(_self: Upstream, _url: str, _path: str, _limit: int, timeout_s: float) -> Page:
        left.append(timeout_s)
        raise TimeoutError

    monkeypatch.setattr(Upstream, "page", page)
    registered(cluster)
    assert (await get(cluster, "/metrics/workers/decoder-0"))[0] == 504
    monkeypatch.setattr(scraping, "SCHEDULER_TIMEOUT_S", 0.05)
    cluster.scheduler.decide = lambda message: []
    assert (await get(cluster, "/metrics/workers/decoder-0"))[0] == 504
    assert left[1] < scraping.PAGE_TIMEOUT_S - 0.04


async def test_scrapes_need_no_api_key(make_cluster: Callable[..., Any]) -> None:
    cluster = await make_cluster(api_keys=["secret"])
    registered(cluster)
    cluster.decoders[0].page = b""
    for page in ("", "/targets", "/scheduler", "/workers/decoder-0"):
        assert (await get(cluster, f"/metrics{page}"))[0] == 200
