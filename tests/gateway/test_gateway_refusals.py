"""What a gateway refuses by itself: the engines and the scheduler never hear of it."""

import gzip
import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import gateway_fakes
import pytest
from chat_inputs import bad_chats
from gateway_fakes import FACTS, Cluster, chat_body, data_url, png

from chiasm.messages import Submit, WorkerStatus
from chiasm.nouns import Role

pytestmark = pytest.mark.slow


async def test_bad_chats_are_refused_with_what_to_do(cluster: Cluster) -> None:
    filling = [data_url(png(size=(448, 448)))] * 16  # of 256 tokens each
    bad = bad_chats(FACTS.max_model_len, filling)
    for name, (body, hint) in bad.items():
        status, answer, headers = await cluster.chat(body)
        assert status == 400, name
        assert set(answer["error"]) == {"message", "type", "param", "code"}, name
        assert answer["error"]["type"] == "invalid_request_error", name
        assert hint in answer["error"]["message"], name
        assert headers["X-Request-Id"], name
        assert cluster.scheduler.sent == [], name
    assert f'chiasm_requests_total{{outcome="invalid"}} {len(bad)}.0' in await cluster.metrics()


@pytest.mark.parametrize(
    "prompt", [None, "", 3, {"a": 1}, [], [[]], ["a", 1], [1, "a"], [1, -1], [1.5], [True], [[1], "a"], [[[1]]]]
)
async def test_a_bad_prompt_is_refused(cluster: Cluster, prompt: Any) -> None:
    async with cluster.client.post("/v1/completions", json={"model": "demo", "prompt": prompt}) as answer:
        assert answer.status == (200 if prompt == "" else 400)
    assert len(cluster.scheduler.of(Submit)) == (1 if prompt == "" else 0)


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        ({"prompt": [1] * 4095}, 200),
        ({"prompt": [1] * 4096}, 400),
        ({"prompt": [[1], [1] * 4096]}, 400),
        ({"prompt": "a", "max_tokens": 0, "echo": True}, 200),
        ({"prompt": "a", "max_tokens": 4096}, 200),
        ({"prompt": "a", "max_tokens": 4097}, 400),
        ({"prompt": "a", "logprobs": 3}, 200),
    ],
)
async def test_completions_fit_in_the_context(cluster: Cluster, fields: dict[str, Any], status: int) -> None:
    async with cluster.client.post("/v1/completions", json={"model": "demo", **fields}) as answer:
        assert answer.status == status
        assert status == 200 or "4096" in (await answer.json())["error"]["message"]
    assert len(cluster.scheduler.of(Submit)) == (status == 200)


@pytest.mark.parametrize(
    "raw",
    [b"", b"{", b"\xff\xfe", b'{"a": NaN}', b'{"a": 1e999}', b'{"a": "\\ud800"}', b"[" * 100_000, b"9" * 10_000],
)
async def test_what_is_no_json_is_refused(cluster: Cluster, raw: bytes) -> None:
    async with cluster.client.post("/v1/chat/completions", data=raw) as answer:
        assert answer.status == 400
        assert "JSON" in (await answer.json())["error"]["message"]


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/completions"])
async def test_a_small_body_does_not_become_very_many_objects(cluster: Cluster, path: str) -> None:
    body = chat_body(prompt="a", x=[{"a": {}}] * 70_000)
    async with cluster.client.post(path, json=body) as answer:
        error = (await answer.json())["error"]
        assert (answer.status, error["code"]) == (400, "body_too_large")
        assert "200000 values" in error["message"]
    assert cluster.scheduler.sent == []


async def test_token_ids_find_room_in_a_body_as_they_do_in_the_context(
    make_cluster: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gateway_fakes, "FACTS", replace(FACTS, max_model_len=150_000))
    cluster = await make_cluster()
    async with cluster.client.post("/v1/completions", json={"prompt": [[1] * 140_000] * 2}) as answer:
        assert answer.status == 200


async def test_a_body_that_belies_its_encoding_is_refused(cluster: Cluster) -> None:
    headers = {"Content-Encoding": "gzip"}
    async with cluster.client.post("/v1/chat/completions", data=b"no gzip", headers=headers) as answer:
        assert answer.status == 400
        assert (await answer.json())["error"]["type"] == "invalid_request_error"


async def test_an_unknown_model_is_not_found(cluster: Cluster) -> None:
    status, answer, _ = await cluster.chat(chat_body() | {"model": "gpt"})
    assert (status, answer["error"]["code"], answer["error"]["param"]) == (404, "model_not_found", "model")
    assert "demo" in answer["error"]["message"]


async def test_no_model_means_the_one_that_is_served(cluster: Cluster) -> None:
    body = chat_body()
    del body["model"]
    status, _, _ = await cluster.chat(body)
    assert (status, cluster.decoders[0].calls[0].body["model"]) == (200, "demo")


async def test_limits_hold_and_what_is_within_them_passes(make_cluster: Callable[..., Any]) -> None:
    small = png(size=(10, 10))
    cluster = await make_cluster(max_items=2, max_item_bytes=len(small), max_item_pixels=100, max_body_bytes=10_000)
    fits, wide = data_url(small), data_url(png(size=(101, 1)))
    assert len(png(size=(101, 1))) <= len(small) + 2

    async def refusal(body: dict[str, Any]) -> tuple[int, str]:
        status, answer, _ = await cluster.chat(body)
        return status, answer["error"]["message"]

    assert (await cluster.chat(chat_body(fits, fits)))[0] == 200
    status, message = await refusal(chat_body(fits, fits, fits))
    assert (status, "3 images; 2 are allowed" in message) == (400, True)
    status, message = await refusal(chat_body(wide))
    assert (status, "100 pixels" in message) == (400, True)
    status, message = await refusal(chat_body(data_url(small + b"\0")))
    assert (status, "bytes allowed" in message) == (400, True)
    status, message = await refusal(chat_body(data_url(small * 50)))
    assert (status, "bytes allowed" in message) == (400, True)
    status, message = await refusal(chat_body(text="x" * 10_000))
    assert (status, "10000 bytes" in message) == (413, True)


async def test_a_small_archive_does_not_become_a_large_body(make_cluster: Callable[..., Any]) -> None:
    cluster = await make_cluster(max_body_bytes=100_000)
    packed = gzip.compress(json.dumps(chat_body(text="x" * 5_000_000)).encode())
    headers = {"Content-Encoding": "gzip"}
    async with cluster.client.post("/v1/chat/completions", data=packed, headers=headers) as answer:
        assert answer.status == 413


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/v1/nothing", 404),
        ("GET", "/", 404),
        ("POST", "/v1/embeddings", 404),
        ("GET", "/v1/chat/completions", 405),
        ("DELETE", "/v1/models", 405),
    ],
)
async def test_unknown_routes_and_methods_have_openais_shape(
    cluster: Cluster, method: str, path: str, status: int
) -> None:
    async with cluster.client.request(method, path) as answer:
        assert answer.status == status
        assert set((await answer.json())["error"]) == {"message", "type", "param", "code"}
        assert answer.headers["X-Request-Id"]


@pytest.mark.parametrize(
    ("authorization", "status"),
    [
        (None, 401),
        ("Bearer wrong", 401),
        ("Bearer ", 401),
        ("Basic first", 401),
        ("Bearer first", 200),
        ("Bearer sec\u00f6nd", 200),
    ],
)
async def test_only_holders_of_a_key_are_served(
    make_cluster: Callable[..., Any], authorization: str | None, status: int
) -> None:
    cluster = await make_cluster(api_keys=["first", "sec\u00f6nd"])
    headers = {} if authorization is None else {"Authorization": authorization}
    for method, path in [("GET", "/v1/models"), ("GET", "/v1/chiasm/status"), ("POST", "/v1/chat/completions")]:
        body = chat_body() if method == "POST" else None
        async with cluster.client.request(method, path, headers=headers, json=body) as answer:
            assert answer.status == status
            assert (status == 401) == ("error" in await answer.json())
    for path in ("/health", "/ready", "/metrics"):
        async with cluster.client.get(path) as answer:
            assert answer.status == 200


@pytest.mark.parametrize(("scope", "shared"), [("tenant", False), ("shared", True)])
async def test_tenants_share_embeddings_only_where_the_operator_says_so(
    make_cluster: Callable[..., Any], scope: str, shared: bool
) -> None:
    cluster = await make_cluster(api_keys=["one", "two"], cache_scope=scope)
    for key in ("one", "two"):
        headers = {"Authorization": f"Bearer {key}"}
        async with cluster.client.post(
            "/v1/chat/completions", headers=headers, json=chat_body(data_url(png()))
        ) as answer:
            assert answer.status == 200
    first, second = (submit.items[0].uuid for submit in cluster.scheduler.of(Submit))
    assert (first == second) == shared


@pytest.mark.parametrize("option", ["mm_processor_kwargs", "media_io_kwargs"])
async def test_processor_options_are_refused_unless_allowed(cluster: Cluster, option: str) -> None:
    status, answer, _ = await cluster.chat(chat_body(data_url(png()), **{option: {"image": {}}}))
    assert (status, answer["error"]["param"]) == (400, option)
    assert not cluster.scheduler.of(Submit)


WORKER = WorkerStatus("encoder-0", Role.ENCODER, "node", "http://e", 0, 0, 4, 0, 100.0, 3)


async def test_ready_names_what_is_missing(cluster: Cluster) -> None:
    async with cluster.client.get("/ready") as answer:
        assert answer.status == 200
    cluster.scheduler.ready = False
    cluster.scheduler.workers = (WORKER,)
    async with cluster.client.get("/ready") as answer:
        assert answer.status == 503
        message = (await answer.json())["error"]["message"]
    assert "decoder" in message
    assert "encoder" not in message


async def test_the_status_is_the_schedulers(cluster: Cluster) -> None:
    cluster.scheduler.workers = (WORKER,)
    async with cluster.client.get("/v1/chiasm/status") as answer:
        status = await answer.json()
    assert status["ready"] is True
    assert status["workers"][0]["worker"] == "encoder-0"
    assert status["workers"][0]["held"] == 3
    assert status["counters"] == {"submitted": 0}


async def test_a_silent_scheduler_is_not_ready(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("chiasm.gateway.asking.TIMEOUT_S", 0.01)
    cluster.scheduler.decide = lambda message: []
    for path in ("/ready", "/v1/chiasm/status"):
        async with cluster.client.get(path) as answer:
            assert answer.status == 503
            assert "does not answer" in (await answer.json())["error"]["message"]


async def test_models_lists_the_one_that_is_served(cluster: Cluster) -> None:
    async with cluster.client.get("/v1/models") as answer:
        [model] = (await answer.json())["data"]
    assert (model["id"], model["object"], model["created"], model["max_model_len"]) == (
        "demo",
        "model",
        1_700_000_000,
        4096,
    )


async def test_a_gateway_whose_line_has_failed_is_unhealthy(cluster: Cluster) -> None:
    async with cluster.client.get("/health") as answer:
        assert answer.status == 200

    async def fails() -> Any:
        raise RuntimeError("the socket is gone")

    cluster.scheduler.receive = fails  # type: ignore[method-assign]
    cluster.scheduler.push("wakes the link")
    while True:
        async with cluster.client.get("/health") as answer:
            if answer.status == 503:
                break
