"""What a gateway refuses by itself: the engines and the scheduler never hear of it."""

import gzip
import io
import json
import zlib
from collections.abc import Callable
from typing import Any

import pytest
from gateway_fakes import Cluster, chat_body, data_url, encoded, image_part, png
from PIL import Image

from chiasm.messages import Submit, WorkerStatus
from chiasm.nouns import Role

IMAGE = data_url(png())
WIDE = data_url(png(size=(448, 448)))  # 256 tokens


def with_part(part: Any) -> dict[str, Any]:
    return {"model": "demo", "messages": [{"role": "user", "content": [part]}]}


def with_url(url: Any) -> dict[str, Any]:
    return with_part(image_part(url))


def nested(levels: int) -> Any:
    value: Any = 1
    for _ in range(levels):
        value = {"a": value}
    return value


def noise(kind: str) -> bytes:
    """An image that does not compress, so that a part of its file is a part of its pixels."""
    buffer = io.BytesIO()
    Image.effect_noise((120, 90), 60).convert("RGB").save(buffer, kind)
    return buffer.getvalue()


def many_scans() -> bytes:
    jpeg = encoded("red", (8, 8), "JPEG")
    comment = b"\xff\xfe" + (2 + 400).to_bytes(2, "big") + b"\xff\xda" * 200
    return jpeg[:2] + comment + jpeg[2:]


def message(role: Any, content: Any = "hi", **more: Any) -> dict[str, Any]:
    return {"model": "demo", "messages": [{"role": role, "content": content, **more}]}


CHAT_REFUSALS: dict[str, tuple[Any, str]] = {
    "no messages": ({"model": "demo"}, "messages"),
    "empty messages": ({"messages": []}, "at least one"),
    "message is text": ({"messages": ["hi"]}, "role"),
    "message without role": ({"messages": [{"content": "hi"}]}, "role"),
    "content is a number": ({"messages": [{"role": "user", "content": 3}]}, "content"),
    "a role of its own": (message("wizard"), "Use one of system, developer, user"),
    "role is a number": (message(3), "role"),
    "no content": ({"messages": [{"role": "user"}]}, "content"),
    "null content": (message("user", None), "content"),
    "empty content": (message("user", []), "at least one part"),
    "content is an object": (message("user", {"type": "text", "text": "hi"}), "content"),
    "image from the system": (message("system", [image_part(IMAGE)]), "those of the user"),
    "image from the assistant": (message("assistant", [image_part(IMAGE)]), "those of the user"),
    "detail is a number": (with_part({"type": "image_url", "image_url": {"url": IMAGE, "detail": 3}}), "detail"),
    "images beyond the context": (chat_body(*[WIDE] * 16), "4096 tokens"),
    "a list": ([1], "JSON object"),
    "part without type": (with_part({"text": "hi"}), "type"),
    "part is a number": (with_part(3), "type"),
    "text is a number": (with_part({"type": "text", "text": 3}), "text"),
    "untyped image": (with_part({"image_url": IMAGE}), "type"),
    "image_embeds": (with_part({"type": "image_embeds", "image_embeds": {}}), "image_url"),
    "audio_embeds": (with_part({"type": "audio_embeds", "audio_embeds": "x"}), "image_url"),
    "video_url": (with_part({"type": "video_url", "video_url": {"url": "x"}}), "image_url"),
    "prompt_embeds part": (with_part({"type": "prompt_embeds", "data": "x"}), "image_url"),
    "part's own uuid": (with_part(image_part(IMAGE) | {"uuid": "mine"}), "uuid"),
    "text part's uuid": (with_part({"type": "text", "text": "a", "uuid": None}), "uuid"),
    "ec_transfer_params": (chat_body(ec_transfer_params={"a": 1}), "ec_transfer_params"),
    "kv_transfer_params": (chat_body(kv_transfer_params=None), "kv_transfer_params"),
    "nested ec_transfer_params": (chat_body(vllm_xargs={"ec_transfer_params": [1]}), "ec_transfer_params"),
    "deeply nested ec_transfer_params": (chat_body(x=[{"y": [{"ec_transfer_params": 1}]}]), "ec_transfer_params"),
    "prompt_embeds": (chat_body(prompt_embeds="x"), "prompt_embeds"),
    "too deep": (chat_body(x=nested(200)), "nested"),
    "stream is a text": (chat_body(stream="yes"), "stream"),
    "n is zero": (chat_body(n=0), "n does not fit"),
    "n is huge": (chat_body(n=10**30), "n does not fit"),
    "n is true": (chat_body(n=True), "n does not fit"),
    "model is a number": (chat_body() | {"model": 3}, "model"),
    "max_tokens is a text": (chat_body(max_tokens="9"), "max_tokens"),
    "max_tokens is negative": (chat_body(max_tokens=-5), "max_tokens"),
    "max_tokens is zero": (chat_body(max_tokens=0), "between 1 and 4096"),
    "max_tokens is beyond the context": (chat_body(max_tokens=4097), "context is 4096 tokens"),
    "max_tokens is beyond everything": (chat_body(max_tokens=10**30), "context is 4096 tokens"),
    "max_completion_tokens is negative": (chat_body(max_completion_tokens=-1), "max_completion_tokens"),
    "max_completion_tokens is beyond the context": (chat_body(max_completion_tokens=9999), "max_completion_tokens"),
    "min_tokens is negative": (chat_body(min_tokens=-1), "min_tokens"),
    "temperature is a text": (chat_body(temperature="hot"), "temperature does not fit: Expected"),
    "temperature is negative": (chat_body(temperature=-0.1), "temperature"),
    "temperature is high": (chat_body(temperature=2.1), "temperature"),
    "top_p is zero": (chat_body(top_p=0), "top_p"),
    "top_k is a text": (chat_body(top_k="5"), "top_k"),
    "seed is huge": (chat_body(seed=2**63), "seed"),
    "stop is a number": (chat_body(stop=[1]), "stop[0]"),
    "logit_bias is a list": (chat_body(logit_bias=[1]), "logit_bias"),
    "penalty out of range": (chat_body(presence_penalty=3), "presence_penalty"),
    "tools are a text": (chat_body(tools="f"), "tools"),
    "response_format is a text": (chat_body(response_format="json"), "response_format"),
    "stream_options are a list": (chat_body(stream=True, stream_options=[1]), "stream_options"),
    "include_usage is a text": (chat_body(stream=True, stream_options={"include_usage": "y"}), "include_usage"),
    "stream_options without a stream": (chat_body(stream_options={"include_usage": True}), "Set stream to true"),
    "options are a text": (chat_body(mm_processor_kwargs="x"), "mm_processor_kwargs"),
    "media options are a list": (chat_body(media_io_kwargs=[1]), "media_io_kwargs"),
    "web address": (with_url("https://example.org/cat.png"), "data URL"),
    "web address in capitals": (with_url("HTTP://example.org/cat.png"), "data URL"),
    "file address": (with_url("file:///etc/passwd"), "data URL"),
    "no URL": (with_part({"type": "image_url", "image_url": {}}), "data URL"),
    "URL is a number": (with_url(3), "data URL"),
    "text in a data URL": (with_url("data:text/plain;base64,aGk="), "data URL"),
    "data URL with parameters": (with_url(IMAGE.replace("png;", "png;charset=x;")), "data URL"),
    "bad base64": (with_url("data:image/png;base64,a!b="), "base64"),
    "unpadded base64": (with_url("data:image/png;base64,aGk"), "base64"),
    "base64 with a line break": (with_url(IMAGE[:40] + "\n" + IMAGE[40:]), "base64"),
    "no image": (with_url(data_url(b"hello world")), "readable image"),
    "empty image": (with_url(data_url(b"")), "readable image"),
    "an icon": (with_url(data_url(encoded("red", (16, 16), "ICO"))), "PNG, JPEG, WEBP, GIF"),
    "a ribbon": (with_url(data_url(png(size=(402, 2)))), "200 times"),
    "a JPEG of very many scans": (with_url(data_url(many_scans())), "scans"),
}
for kind in ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF"):
    whole = noise(kind)
    for part, length in (("half", len(whole) // 2), ("almost all", len(whole) - 20)):
        CHAT_REFUSALS[f"{part} of a {kind}"] = (with_url(data_url(whole[:length])), "Send")


@pytest.mark.parametrize("case", CHAT_REFUSALS)
async def test_a_bad_chat_is_refused_with_what_to_do(cluster: Cluster, case: str) -> None:
    body, hint = CHAT_REFUSALS[case]
    status, answer, headers = await cluster.chat(body)
    assert status == 400
    assert set(answer["error"]) == {"message", "type", "param", "code"}
    assert answer["error"]["type"] == "invalid_request_error"
    assert hint in answer["error"]["message"]
    assert headers["X-Request-Id"]
    assert cluster.scheduler.sent == []
    assert 'chiasm_requests_total{outcome="invalid"} 1.0' in await cluster.metrics()


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


@pytest.mark.parametrize(("side", "hint"), [(0, "no "), (20_000, "pixels allowed"), (60_000, "pixels allowed")])
async def test_an_impossible_size_is_refused_by_the_header(cluster: Cluster, side: int, hint: str) -> None:
    """A small file that claims so many pixels: its data are missing, so whoever decoded it would call it truncated."""
    bomb = bytearray(png())
    bomb[16:24] = side.to_bytes(4, "big") * 2
    bomb[29:33] = zlib.crc32(bomb[12:29]).to_bytes(4, "big")
    status, answer, _ = await cluster.chat(chat_body(data_url(bytes(bomb))))
    assert status == 400
    assert hint in answer["error"]["message"]
    assert cluster.scheduler.sent == []


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
    monkeypatch.setattr("chiasm.gateway.app.STATUS_TIMEOUT_S", 0.01)
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
