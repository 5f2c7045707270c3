"""What a client gets when all goes well."""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import gateway_fakes
import pytest
from gateway_fakes import (
    FACTS,
    OPENING,
    TOKEN,
    Cluster,
    chat_body,
    chunk,
    data_url,
    events,
    hangs,
    png,
    replies,
    replies_stream,
)
from openai import AsyncOpenAI

from chiasm import __version__
from chiasm.messages import DecodeDone, EncodeDone, Submit
from chiasm.nouns import Role


async def test_text_reaches_the_decoder_as_it_was_sent(cluster: Cluster) -> None:
    body = chat_body(text="hi", temperature=0.5, n=2, tools=[{"type": "function", "function": {"name": "f"}}], x_odd=1)
    status, answer, headers = await cluster.chat(body)
    assert status == 200
    assert answer["choices"][0]["message"]["content"] == "hello"
    [call] = cluster.decoders[0].calls
    assert call.body == body
    assert call.headers["Authorization"] == f"Bearer {TOKEN}"
    [submit] = cluster.scheduler.of(Submit)
    assert call.headers["X-Request-Id"] == headers["X-Request-Id"] == submit.request
    assert submit.items == ()
    assert submit.output_tokens == 2 * 256
    done = await cluster.scheduler.wait_for(DecodeDone)
    assert (done.worker, done.output_tokens) == ("decoder-0", 2)


@pytest.mark.parametrize(("asked", "expected"), [(None, 2 * 50), (9, 2 * 9), (60, 2 * 50)])
async def test_no_answer_is_expected_to_be_longer_than_engines_allow(
    make_cluster: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, asked: int | None, expected: int
) -> None:
    monkeypatch.setattr(gateway_fakes, "FACTS", replace(FACTS, longest_answer=50))
    cluster = await make_cluster()
    await cluster.chat(chat_body(text="hi", max_tokens=asked, n=2))
    [submit] = cluster.scheduler.of(Submit)
    assert submit.output_tokens == expected


async def test_an_image_is_encoded_and_then_only_referred_to(make_cluster: Callable[..., Any]) -> None:
    cluster = await make_cluster(allow_processor_options=True)
    url = data_url(png())
    options = {"mm_processor_kwargs": {"max_pixels": 1000}}
    status, _, headers = await cluster.chat(chat_body(url, max_tokens=9, **options))
    assert status == 200
    [submit] = cluster.scheduler.of(Submit)
    [item] = submit.items
    assert (item.modality, item.tokens, submit.output_tokens) == ("image", 6, 9)
    [encode] = cluster.encoders[0].calls
    assert encode.body == {
        "model": "demo",
        "messages": [
            {"role": "user", "content": [{"type": "image_url", "image_url": {"url": url}, "uuid": item.uuid}]}
        ],
        "max_tokens": 1,
        **options,
    }
    assert encode.headers["Authorization"] == f"Bearer {TOKEN}"
    [decode] = cluster.decoders[0].calls
    assert decode.body == {
        "model": "demo",
        "messages": [
            {
                "role": "user",
                "content": [
                    {"type": "image_embeds", "image_embeds": {"image_grid_thw": [1, 2, 4]}, "uuid": item.uuid},
                    {"type": "text", "text": "what is this?"},
                ],
            }
        ],
        "max_tokens": 9,
        **options,
        "ec_transfer_params": {
            "request": submit.request,
            "items": {
                f"key-{item.uuid[:8]}": {"endpoint": "tcp://127.0.0.1:5555", "shape": [2, 64], "dtype": "float32"}
            },
        },
    }
    phases = [entry.split(";")[0] for entry in headers["Server-Timing"].split(", ")]
    assert phases == ["fetch", "encode_queue", "encode", "decode_queue", "decode"]


async def test_several_images_keep_their_order_and_a_repeated_one_is_encoded_once(cluster: Cluster) -> None:
    red, blue = data_url(png("red")), data_url(png("blue"))
    status, _, _ = await cluster.chat(chat_body(red, blue, red))
    assert status == 200
    [submit] = cluster.scheduler.of(Submit)
    first, second, third = (item.uuid for item in submit.items)
    assert first == third != second
    assert len(cluster.encoders[0].calls) == 2
    [decode] = cluster.decoders[0].calls
    parts = decode.body["messages"][0]["content"]
    assert [part.get("uuid") for part in parts] == [first, second, third, None]
    assert len(decode.body["ec_transfer_params"]["items"]) == 2


async def test_the_encodes_of_one_request_run_side_by_side(cluster: Cluster) -> None:
    both = asyncio.Barrier(2)

    async def meets(request, body):
        await both.wait()  # a second encode that waited for the first would leave it here for ever
        return await cluster.encoders[0].usual(request, body)

    cluster.encoders[0].behaviours = [meets, meets]
    async with asyncio.timeout(10):
        status, _, _ = await cluster.chat(chat_body(data_url(png("red")), data_url(png("blue"))))
    assert status == 200


async def test_a_whole_worker_gets_the_pixels_and_the_name(cluster: Cluster) -> None:
    cluster.scheduler.role = Role.WHOLE
    url = data_url(png())
    status, _, _ = await cluster.chat(chat_body(url))
    assert status == 200
    [call] = cluster.decoders[0].calls
    [submit] = cluster.scheduler.of(Submit)
    part = call.body["messages"][0]["content"][0]
    assert part == {"type": "image_url", "image_url": {"url": url}, "uuid": submit.items[0].uuid}
    assert "ec_transfer_params" not in call.body
    assert cluster.encoders[0].calls == []


async def test_a_stream_passes_byte_for_byte(cluster: Cluster) -> None:
    sent = events(OPENING, chunk("h\u00e9"), chunk("llo")) + b": a comment\n\n"
    pieces = [sent[at : at + 7] for at in range(0, len(sent), 7)]
    cluster.decoders[0].behaviours = [replies_stream(*pieces)]
    status, got = await cluster.stream(chat_body())
    assert (status, got) == (200, sent)
    done = await cluster.scheduler.wait_for(DecodeDone)
    assert done.output_tokens == 2
    page = await cluster.metrics()
    assert 'chiasm_time_to_first_token_seconds_count{images="false"} 1.0' in page
    assert 'chiasm_request_seconds_count{images="false"} 1.0' in page
    assert 'chiasm_output_tokens_total{images="false"} 2.0' in page


async def test_requests_with_images_are_measured_by_themselves(cluster: Cluster) -> None:
    await cluster.stream(chat_body(data_url(png())))
    await cluster.chat({})  # no answer, and so no duration
    page = await cluster.metrics()
    for name in ("time_to_first_token_seconds_count", "request_seconds_count"):
        assert [line for line in page.splitlines() if line.startswith(f"chiasm_{name}")] == [
            f'chiasm_{name}{{images="true"}} 1.0'
        ]
    assert 'chiasm_output_tokens_total{images="true"} 7.0' in page


async def test_the_page_names_the_version_and_tells_of_the_process(cluster: Cluster) -> None:
    page = await cluster.metrics()
    assert f'chiasm_build_info{{version="{__version__}"}} 1.0' in page
    assert "\nprocess_resident_memory_bytes " in page


async def test_tokens_reach_the_client_while_the_engine_still_generates(cluster: Cluster) -> None:
    more = asyncio.Event()
    cluster.decoders[0].behaviours = [replies_stream(events(OPENING, chunk("a"), done=False), then=more)]
    async with (
        asyncio.timeout(10),
        cluster.client.post("/v1/chat/completions", json=chat_body(stream=True)) as answer,
    ):
        await answer.content.readuntil(b'"content": "a"')
        more.set()


async def test_the_engines_own_count_of_tokens_is_reported(cluster: Cluster) -> None:
    await cluster.stream(chat_body(stream_options={"include_usage": True}))
    done = await cluster.scheduler.wait_for(DecodeDone)
    assert done.output_tokens == 7


@pytest.mark.parametrize("prompt", ["a text", ["two", "texts"], [1, 2, 3], [[1, 2], [3]]])
async def test_completions_take_text_and_token_ids(cluster: Cluster, prompt: object) -> None:
    body = {"model": "demo", "prompt": prompt}
    async with cluster.client.post("/v1/completions", json=body) as answer:
        assert answer.status == 200
        assert (await answer.json())["choices"][0]["text"] == "hello"
    [call] = cluster.decoders[0].calls
    assert (call.path, call.body) == ("/v1/completions", body)


async def test_an_engines_judgement_of_the_request_is_the_clients_to_read(cluster: Cluster) -> None:
    verdict = {"error": {"message": "x_odd must be even", "type": "BadRequestError", "code": 400}}
    cluster.decoders[0].behaviours = [replies(400, verdict)]
    status, answer, _ = await cluster.chat(chat_body(x_odd=1))
    assert (status, answer) == (400, verdict)
    done = await cluster.scheduler.wait_for(DecodeDone)
    assert done.output_tokens == 0


async def test_two_requests_at_once_get_their_own_answers(cluster: Cluster) -> None:
    async def repeats(request, body):
        text = body["messages"][0]["content"]
        return await replies(200, {"choices": [{"message": {"content": text}}]})(request, body)

    cluster.decoders[0].usual = repeats
    asked = [f"question {n}" for n in range(8)]
    got = await asyncio.gather(*(cluster.chat(chat_body(text=text)) for text in asked))
    assert [answer["choices"][0]["message"]["content"] for _, answer, _ in got] == asked


async def test_openais_client_feels_at_home(cluster: Cluster) -> None:
    async with AsyncOpenAI(base_url=f"{cluster.url}/v1", api_key="any", max_retries=0) as client:
        assert [model.id async for model in client.models.list()] == ["demo"]
        messages = chat_body(data_url(png()))["messages"]
        answer = await client.chat.completions.create(model="demo", messages=messages)
        assert answer.choices[0].message.content == "hello"
        stream = await client.chat.completions.create(model="demo", messages=messages, stream=True)
        assert "".join([c.choices[0].delta.content or "" async for c in stream if c.choices]) == "hello"
        completion = await client.completions.create(model="demo", prompt="hi")
        assert completion.choices[0].text == "hello"


async def test_a_late_decision_about_another_request_disturbs_nobody(cluster: Cluster) -> None:
    seen = asyncio.Event()
    cluster.encoders[0].behaviours = [hangs(seen)]
    asking = asyncio.create_task(cluster.chat(chat_body(data_url(png()))))
    await asyncio.wait_for(seen.wait(), 10)
    cluster.scheduler.push("nonsense")
    status, _, _ = await cluster.chat(chat_body())
    assert status == 200
    assert cluster.scheduler.of(EncodeDone) == []
    asking.cancel()
