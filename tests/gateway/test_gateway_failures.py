"""What becomes of a request when engines, the scheduler or the client fail it."""

import asyncio
import json
from collections.abc import Callable
from typing import Any

import pytest
from aiohttp import ClientError, web
from gateway_fakes import (
    ENTRY,
    ERROR,
    OPENING,
    Cluster,
    chat_body,
    chunk,
    data_url,
    events,
    hangs,
    hangs_up,
    png,
    replies,
    replies_stream,
)

from chiasm.gateway import answering
from chiasm.gateway.delivery import Delivery
from chiasm.gateway.sse import ERROR_EVENT
from chiasm.messages import (
    Cancel,
    Decode,
    DecodeDone,
    DecodeFailed,
    Encode,
    EncodeDone,
    EncodeFailed,
    Reject,
    RejectReason,
    Submit,
)
from chiasm.nouns import Role

IMAGE = data_url(png())


def lose_first_embedding(cluster: Cluster, code: str = "missing") -> None:
    """The first decode fails the way vLLM fails a request whose embedding could not be fetched."""
    decoder = cluster.decoders[0]

    async def loses(request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        [key] = body["ec_transfer_params"]["items"]
        decoder.failures = [{"key": key, "code": code, "detail": "gone"}]
        if body.get("stream"):
            return await replies_stream(events(OPENING, done=False), events(ERROR))(request, body)
        return await replies(500, ERROR)(request, body)

    decoder.behaviours = [loses]


async def test_a_lost_embedding_is_encoded_again_and_nobody_notices(cluster: Cluster) -> None:
    lose_first_embedding(cluster)
    status, answer, headers = await cluster.chat(chat_body(IMAGE))
    assert (status, answer["choices"][0]["message"]["content"]) == (200, "hello")
    [failed] = cluster.scheduler.of(DecodeFailed)
    [submit] = cluster.scheduler.of(Submit)
    assert (failed.retryable, failed.lost) == (True, (submit.items[0].uuid,))
    assert "missing" in failed.reason
    assert cluster.decoders[0].transfers_asked == [headers["X-Request-Id"]]
    assert len(cluster.scheduler.of(EncodeDone)) == 2
    assert 'chiasm_retries_total{phase="decode"} 1.0' in await cluster.metrics()


async def test_a_streams_lost_embedding_is_encoded_again_though_the_engine_has_named_the_role(cluster: Cluster) -> None:
    lose_first_embedding(cluster)
    status, got = await cluster.stream(chat_body(IMAGE))
    assert status == 200
    assert b"error" not in got
    assert got.count(b'"role"') == 1
    assert got.endswith(b"data: [DONE]\n\n")
    assert cluster.scheduler.of(DecodeFailed)[0].lost
    assert len(cluster.scheduler.of(DecodeDone)) == 1


@pytest.mark.parametrize("code", ["not_finite", "layout_mismatch", "version_mismatch", "too_large", "wrong_size"])
async def test_a_transfer_that_can_never_succeed_is_not_tried_again(cluster: Cluster, code: str) -> None:
    lose_first_embedding(cluster, code)
    status, answer, _ = await cluster.chat(chat_body(IMAGE))
    assert (status, answer["error"]["code"]) == (502, "decode_failed")
    assert code in answer["error"]["message"]
    assert not cluster.scheduler.of(DecodeFailed)[0].retryable


@pytest.mark.parametrize("stream", [False, True])
async def test_an_internal_error_of_another_kind_is_not_tried_again(cluster: Cluster, stream: bool) -> None:
    cluster.decoders[0].behaviours = [replies_stream(events(ERROR)) if stream else replies(500, ERROR)]
    status, answer, _ = await cluster.chat(chat_body(IMAGE, stream=stream))
    assert (status, answer["error"]["code"]) == (502, "decode_failed")
    assert "Internal server error" in answer["error"]["message"]
    [failed] = cluster.scheduler.of(DecodeFailed)
    assert (failed.reason, failed.retryable, failed.lost) == ("Internal server error", False, ())
    assert cluster.decoders[1].calls == []


@pytest.mark.parametrize("report", [b"nonsense", b'{"failed": 3}', b"x" * 2_000_000])
async def test_an_unreadable_report_of_transfers_is_no_reason_to_retry(cluster: Cluster, report: bytes) -> None:
    lose_first_embedding(cluster)
    cluster.decoders[0].report = report
    status, answer, _ = await cluster.chat(chat_body(IMAGE))
    assert (status, answer["error"]["code"]) == (502, "decode_failed")
    assert "transfers are unknown" in answer["error"]["message"]


async def test_an_engine_that_dies_after_its_error_is_replaced(cluster: Cluster) -> None:
    async def dies(request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        await cluster.decoders[0].runner.sites.copy().pop().stop()
        answer = await replies(500, ERROR)(request, body)
        answer.force_close()
        return answer

    cluster.decoders[0].behaviours = [dies]
    status, _, _ = await cluster.chat(chat_body())
    assert status == 200
    assert cluster.scheduler.of(DecodeFailed)[0].retryable
    assert len(cluster.decoders[1].calls) == 1


async def test_a_refused_connection_is_tried_elsewhere(cluster: Cluster) -> None:
    await cluster.decoders[0].stop()
    await cluster.encoders[0].stop()
    status, _, _ = await cluster.chat(chat_body(IMAGE))
    assert status == 200
    [encode_failed] = cluster.scheduler.of(EncodeFailed)
    [decode_failed] = cluster.scheduler.of(DecodeFailed)
    assert (encode_failed.worker, encode_failed.retryable) == ("encoder-0", True)
    assert (decode_failed.worker, decode_failed.retryable, decode_failed.lost) == ("decoder-0", True, ())


@pytest.mark.parametrize(
    ("stream", "behaviour"),
    [
        (False, hangs_up),
        (True, hangs_up),
        (True, replies_stream(events(OPENING, done=False), cut=True)),
        (True, replies_stream(events(OPENING, done=False))),
        (False, replies(503, {"error": {"message": "overloaded"}})),
        (True, replies(429, {"error": {"message": "overloaded"}})),
    ],
)
async def test_whatever_breaks_before_the_first_token_is_tried_elsewhere(
    cluster: Cluster, stream: bool, behaviour: Any
) -> None:
    cluster.decoders[0].behaviours = [behaviour]
    async with cluster.client.post("/v1/chat/completions", json=chat_body(stream=stream)) as answer:
        assert answer.status == 200
        assert b"error" not in await answer.read()
    assert cluster.scheduler.of(DecodeFailed)[0].retryable
    assert len(cluster.decoders[1].calls) == 1


async def test_a_stream_cut_in_mid_answer_ends_with_an_error_and_no_second_attempt(cluster: Cluster) -> None:
    cluster.decoders[0].behaviours = [replies_stream(events(OPENING, chunk("a"), done=False), b'data: {"ha', cut=True)]
    status, got = await cluster.stream(chat_body())
    assert status == 200
    *_, token, error, done, nothing = got.split(b"\n\n")
    assert json.loads(token[6:])["choices"][0]["delta"]["content"] == "a"
    assert json.loads(error.removeprefix(ERROR_EVENT)[6:])["error"]["code"] == "decode_failed"
    assert (done, nothing) == (b"data: [DONE]", b"")
    [failed] = cluster.scheduler.of(DecodeFailed)
    assert not failed.retryable
    assert cluster.decoders[1].calls == []
    assert cluster.scheduler.of(Cancel) == []
    assert 'chiasm_requests_total{outcome="decode_failed"} 1.0' in await cluster.metrics()


async def test_an_engines_error_in_mid_answer_passes_in_its_own_words(cluster: Cluster) -> None:
    begun = events(OPENING, chunk("a"), done=False)
    rest = events(ERROR)
    read = asyncio.Event()
    cluster.decoders[0].behaviours = [replies_stream(begun, then=read, last=rest)]
    async with asyncio.timeout(10), cluster.client.post("/v1/chat/completions", json=chat_body(stream=True)) as answer:
        assert await answer.content.readexactly(len(begun)) == begun
        read.set()
        assert await answer.content.read() == ERROR_EVENT + rest
    [failed] = cluster.scheduler.of(DecodeFailed)
    assert (failed.retryable, failed.reason) == (False, "Internal server error")
    assert cluster.scheduler.of(DecodeDone) == []


@pytest.mark.parametrize("status", [401, 403, 404, 405])
async def test_a_misconfigured_engine_is_not_the_clients_fault(cluster: Cluster, status: int) -> None:
    cluster.decoders[0].behaviours = [replies(status, {"error": "Unauthorized"})]
    got, answer, _ = await cluster.chat(chat_body())
    assert (got, answer["error"]["code"]) == (502, "decode_failed")
    assert "Unauthorized" in answer["error"]["message"]


async def test_an_image_that_the_encoder_refuses_is_the_clients_fault(cluster: Cluster) -> None:
    cluster.encoders[0].behaviours = [replies(400, {"error": {"message": "aspect ratio too extreme"}})]
    status, answer, _ = await cluster.chat(chat_body(IMAGE))
    assert (status, answer["error"]["code"]) == (422, "bad_item")
    assert "aspect ratio too extreme" in answer["error"]["message"]
    [failed] = cluster.scheduler.of(EncodeFailed)
    assert not failed.retryable


@pytest.mark.parametrize(
    ("status", "content"),
    [
        (200, {}),
        (200, {"ec_transfer_params": None}),
        (200, {"ec_transfer_params": {}}),
        (200, {"ec_transfer_params": {"a": ENTRY, "b": ENTRY}}),
        (200, {"ec_transfer_params": {"": ENTRY}}),
        (200, {"ec_transfer_params": {"a": ENTRY | {"shape": [0, 4]}}}),
        (200, {"ec_transfer_params": {"a": ENTRY | {"shape": [1, 2, 3]}}}),
        (200, {"ec_transfer_params": {"a": ENTRY | {"endpoint": "http://h"}}}),
        (200, {"ec_transfer_params": {"a": ENTRY | {"metadata": "g"}}}),
        (200, {"ec_transfer_params": {"a": {}}}),
        (200, [1]),
        (500, ERROR),
        (503, {}),
        (401, {"error": "Unauthorized"}),
        (429, {}),
    ],
)
async def test_any_other_failure_to_encode_is_tried_elsewhere(cluster: Cluster, status: int, content: Any) -> None:
    cluster.encoders[0].behaviours = [replies(status, content)]
    got, _, _ = await cluster.chat(chat_body(IMAGE))
    assert got == 200
    [failed] = cluster.scheduler.of(EncodeFailed)
    assert failed.retryable
    assert failed.reason
    assert len(cluster.encoders[1].calls) == 1


REJECTIONS = [
    (RejectReason.QUEUE_FULL, 429),
    (RejectReason.NO_WORKER, 503),
    (RejectReason.DEADLINE, 504),
    (RejectReason.BAD_ITEM, 422),
    (RejectReason.ATTEMPTS, 502),
    (RejectReason.DECODE, 502),
]


@pytest.mark.parametrize(("reason", "status"), REJECTIONS)
async def test_every_rejection_has_its_status(cluster: Cluster, reason: RejectReason, status: int) -> None:
    cluster.scheduler.decide = lambda m: [Reject(m.request, reason, "because", 2.2)] if isinstance(m, Submit) else []
    got, answer, headers = await cluster.chat(chat_body())
    error = answer["error"]
    assert (got, error["code"]) == (status, reason)
    assert "because" in error["message"]
    assert set(error) == {"message", "type", "param", "code"}
    assert headers.get("Retry-After") == ("3" if status == 429 else None)
    assert cluster.scheduler.of(Cancel) == []
    assert f'chiasm_requests_total{{outcome="{reason}"}} 1.0' in await cluster.metrics()


def test_no_rejection_is_forgotten() -> None:
    assert {reason for reason, _ in REJECTIONS} == set(RejectReason)


async def test_a_rejection_aborts_what_runs(cluster: Cluster) -> None:
    seen = asyncio.Event()
    cluster.decoders[0].behaviours = [hangs(seen)]
    asking = asyncio.create_task(cluster.chat(chat_body()))
    async with asyncio.timeout(10):
        await seen.wait()
        cluster.scheduler.push(Reject(cluster.scheduler.of(Submit)[0].request, RejectReason.DEADLINE, "late"))
        status, _, _ = await asking
        await cluster.decoders[0].aborted.wait()
    assert status == 504


async def test_a_scheduler_that_never_answers_is_bounded(make_cluster: Callable[..., Any]) -> None:
    cluster = await make_cluster(request_timeout_s=0.5)
    cluster.scheduler.decide = lambda message: []
    status, answer, _ = await cluster.chat(chat_body())
    assert (status, answer["error"]["code"]) == (504, "deadline_exceeded")
    assert len(cluster.scheduler.of(Cancel)) == 1
    assert 0 < cluster.scheduler.of(Submit)[0].deadline_s <= 0.5


async def test_a_rejection_in_mid_answer_ends_the_stream_with_an_error(cluster: Cluster) -> None:
    begun = events(OPENING, chunk("a"), done=False)
    cluster.decoders[0].behaviours = [replies_stream(begun, then=asyncio.Event())]
    async with asyncio.timeout(10), cluster.client.post("/v1/chat/completions", json=chat_body(stream=True)) as answer:
        assert await answer.content.readexactly(len(begun)) == begun
        cluster.scheduler.push(Reject(cluster.scheduler.of(Submit)[0].request, RejectReason.DEADLINE, "late"))
        error, done, _ = (await answer.read()).split(b"\n\n")
        await cluster.decoders[0].aborted.wait()
    assert json.loads(error.removeprefix(ERROR_EVENT)[6:])["error"]["code"] == "deadline_exceeded"
    assert done == b"data: [DONE]"


async def test_a_second_decode_replaces_one_that_has_delivered_nothing(cluster: Cluster) -> None:
    seen = asyncio.Event()

    async def answers_after_the_first_is_gone(request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        await cluster.decoders[0].aborted.wait()
        return await cluster.decoders[1].usual(request, body)

    cluster.decoders[0].behaviours = [hangs(seen)]
    cluster.decoders[1].behaviours = [answers_after_the_first_is_gone]
    asking = asyncio.create_task(cluster.chat(chat_body()))
    async with asyncio.timeout(10):
        await seen.wait()
        request = cluster.scheduler.of(Submit)[0].request
        cluster.scheduler.push(Decode(request, "decoder-1", Role.DECODER, cluster.decoders[1].url, ()))
        status, _, _ = await asking
    assert status == 200
    assert cluster.scheduler.of(DecodeDone)[0].worker == "decoder-1"


async def test_a_second_decode_cannot_continue_a_begun_answer(cluster: Cluster) -> None:
    cluster.decoders[0].behaviours = [replies_stream(events(OPENING, chunk("a"), done=False), then=asyncio.Event())]
    async with asyncio.timeout(10), cluster.client.post("/v1/chat/completions", json=chat_body(stream=True)) as answer:
        await answer.content.readany()
        request = cluster.scheduler.of(Submit)[0].request
        cluster.scheduler.push(Decode(request, "decoder-1", Role.DECODER, cluster.decoders[1].url, ()))
        rest = await answer.read()
    assert b'"code":"decode_failed"' in rest
    [failed] = cluster.scheduler.of(DecodeFailed)
    assert (failed.worker, failed.retryable) == ("decoder-1", False)
    assert cluster.decoders[1].calls == []


async def test_decisions_that_do_not_fit_the_request_are_reported(cluster: Cluster) -> None:
    def decide(message: Any) -> list[Any]:
        if isinstance(message, Submit):
            return [Encode(message.request, "f" * 64, "encoder-0", cluster.encoders[0].url)]
        return cluster.scheduler.usual(message)

    cluster.scheduler.decide = decide
    status, answer, _ = await cluster.chat(chat_body(IMAGE))
    assert (status, answer["error"]["code"]) == (422, "bad_item")
    assert cluster.encoders[0].calls == []


async def test_embeddings_of_another_request_are_never_decoded(cluster: Cluster) -> None:
    await cluster.chat(chat_body(IMAGE))
    foreign = (cluster.scheduler.of(EncodeDone)[0].embedding,)

    def decide(message: Any) -> list[Any]:
        if isinstance(message, Submit):
            return [Decode(message.request, "decoder-1", Role.DECODER, cluster.decoders[1].url, foreign)]
        return cluster.scheduler.usual(message)

    cluster.scheduler.decide = decide
    status, _, _ = await cluster.chat(chat_body(data_url(png("blue"))))
    assert status == 502
    assert cluster.decoders[1].calls == []


async def test_a_fault_of_the_gateways_own_is_a_plain_500(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def breaks(*_: Any) -> bytes:
        raise RuntimeError("secret detail")

    monkeypatch.setattr(answering, "decode_body", breaks)
    status, answer, _ = await cluster.chat(chat_body())
    assert (status, answer["error"]["code"]) == (500, "internal_error")
    assert "secret" not in answer["error"]["message"]
    assert "secret detail" in caplog.text
    assert len(cluster.scheduler.of(Cancel)) == 1


async def test_an_answer_without_end_is_given_up(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(answering, "MAX_ANSWER_BYTES", 10)
    status, answer, _ = await cluster.chat(chat_body())
    assert (status, answer["error"]["code"]) == (502, "decode_failed")
    assert "more than 10 bytes" in answer["error"]["message"]


async def test_the_connection_of_a_client_that_stops_reading_is_cut(
    make_cluster: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    cut = asyncio.Event()
    abandon = Delivery.abandon
    monkeypatch.setattr(Delivery, "abandon", lambda self: (cut.set(), abandon(self))[1])
    cluster = await make_cluster(request_timeout_s=1.0)
    flood = [events(chunk("x" * 200_000), done=False)] * 200
    cluster.decoders[0].behaviours = [replies_stream(*flood, then=asyncio.Event())]
    async with asyncio.timeout(10):
        answer = await cluster.client.post("/v1/chat/completions", json=chat_body(stream=True))
        await cluster.scheduler.wait_for(Cancel)
        await cluster.decoders[0].aborted.wait()
        await cut.wait()
        with pytest.raises(ClientError):
            await answer.read()
    assert 'chiasm_requests_total{outcome="client_left"} 1.0' in await cluster.metrics()
