"""Under what a request is counted that never gets as far as the scheduler: the client's fault, or whose it is."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from gateway_fakes import ENTRY, Cluster, chat_body, data_url, png, replies
from image_origin import Making, Origin, answering
from prometheus_client.parser import text_string_to_metric_families

from chiasm.gateway import reading
from chiasm.gateway.outcomes import OUTCOMES
from chiasm.messages import Reject, RejectReason

pytestmark = pytest.mark.slow

IMAGE = data_url(png())


async def count(cluster: Cluster, outcome: str) -> bool:
    """Whether exactly one request has been counted, and under `outcome`, which there was before."""
    counts = await counted(cluster)
    return counts.keys() == set(OUTCOMES) and {name for name, count in counts.items() if count} == {outcome}


async def counted(cluster: Cluster) -> dict[str, float]:
    """Requests by outcome."""
    families = text_string_to_metric_families(await cluster.metrics())
    [requests] = [family for family in families if family.name == "chiasm_requests"]
    return {one.labels["outcome"]: one.value for one in requests.samples if one.name == "chiasm_requests_total"}


async def test_all_outcomes_and_retries_are_counted_from_0(cluster: Cluster) -> None:
    assert await counted(cluster) == dict.fromkeys(OUTCOMES, 0.0)
    for phase in ("encode", "decode"):
        assert f'chiasm_retries_total{{phase="{phase}"}} 0.0' in await cluster.metrics()


@pytest.mark.parametrize("reason", RejectReason)
async def test_what_the_scheduler_refuses_is_counted_by_its_reason(cluster: Cluster, reason: RejectReason) -> None:
    cluster.scheduler.decide = lambda message: [Reject(message.request, reason, "why")]
    await cluster.chat(chat_body())
    assert await count(cluster, reason)


async def test_an_engines_refusal_and_images_beyond_the_context_are_too(make_cluster: Callable[..., Any]) -> None:
    cluster = await make_cluster()
    cluster.decoders[0].behaviours = [replies(400, {"error": {"message": "no"}})]
    await cluster.chat(chat_body())
    assert await count(cluster, "refused_by_engine")
    cluster = await make_cluster()
    large = {**ENTRY, "endpoint": "tcp://127.0.0.1:5555", "shape": [5000, 4]}
    cluster.encoders[0].behaviours = [replies(200, {"ec_transfer_params": {"key": large}})]
    await cluster.chat(chat_body(IMAGE))
    assert await count(cluster, "context_length_exceeded")


@pytest.mark.parametrize("image", [False, True])
async def test_a_wait_that_ends_without_an_answer_is_measured_too(
    make_cluster: Callable[..., Any], image: bool
) -> None:
    cluster = await make_cluster(request_timeout_s=0.3)
    cluster.scheduler.decide = lambda message: []
    await cluster.chat(chat_body(IMAGE) if image else chat_body())
    page, phase = await cluster.metrics(), "encode_queue" if image else "decode_queue"
    assert f'chiasm_phase_seconds_count{{phase="{phase}"}} 1.0' in page
    assert f'chiasm_phase_seconds_bucket{{le="0.1",phase="{phase}"}} 0.0' in page


async def test_a_refusal_is_no_wait(cluster: Cluster) -> None:
    cluster.scheduler.decide = lambda message: [Reject(message.request, RejectReason.QUEUE_FULL, "full")]
    await cluster.chat(chat_body())
    assert 'phase="decode_queue"' not in await cluster.metrics()


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
