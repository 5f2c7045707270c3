"""The proxy of vLLM's encoder disaggregation, with an encoder and a decoder that answer by a script."""

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import ClientSession, web
from scripted_upstream import Script, Upstream, post, says, upstream

from bench.topologies.epd_proxy import STATUS_PATH, Proxy, keyed
from bench.topologies.front import serving

ONE, TWO = ({"type": "image_url", "image_url": {"url": f"data:image/jpeg;base64,{name}"}} for name in ("AA", "BB"))
TEXT = {"type": "text", "text": "What is this?"}
ANSWER = '{"choices": [{"message": {"content": "a cat"}}]}'


@pytest.fixture
async def client() -> AsyncIterator[ClientSession]:
    async with ClientSession() as session:
        yield session


def chat(*parts: dict[str, Any], **more: Any) -> bytes:
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": list(parts)}]
    return json.dumps({"model": "model", "messages": messages, "max_tokens": 4, **more}).encode()


def key(image: dict[str, Any]) -> str:
    uuid: str = keyed(image)["uuid"]
    return uuid


def encoded(*keys: str, metadata: Any = None) -> Script:
    """The encoder's report of these keys, one picture each, in their order."""
    sizes = [{"image_grid_thw": [[1, 4, 2 * (index + 1)]]} if metadata is None else metadata for index in range(9)]
    params = {
        name: {"item_indices": [at for at, other in enumerate(keys) if other == name], "metadata": sizes[index]}
        for index, name in enumerate(dict.fromkeys(keys))
    }
    return says(json.dumps({"choices": [], "ec_transfer_params": params}))


def sent(engine: Upstream, number: int = 0) -> Any:
    return json.loads(engine.asked[number].body)


async def ask(client: ClientSession, encoder: Upstream, decoder: Upstream, body: bytes) -> tuple[int, Any]:
    async with serving(Proxy(encoder.url, decoder.url)) as url:
        status, said = await post(client, url, body)
        return status, json.loads(said)


async def test_images_are_encoded_together_and_the_decoder_gets_references_in_their_places(
    client: ClientSession,
) -> None:
    async with upstream(encoded(key(ONE), key(TWO))) as encoder, upstream(says(ANSWER)) as decoder:
        body = chat(ONE, TEXT, TWO, mm_processor_kwargs={"max_pixels": 9})
        assert await ask(client, encoder, decoder, body) == (200, json.loads(ANSWER))
    assert sent(encoder) == {
        "model": "model",
        "messages": [{"role": "user", "content": [{**ONE, "uuid": key(ONE)}, {**TWO, "uuid": key(TWO)}]}],
        "mm_processor_kwargs": {"max_pixels": 9},
    }
    first = {"type": "image_embeds", "image_embeds": {"image_grid_thw": [1, 4, 2]}, "uuid": key(ONE)}
    second = {"type": "image_embeds", "image_embeds": {"image_grid_thw": [1, 4, 4]}, "uuid": key(TWO)}
    expected = json.loads(body)
    expected["messages"][1]["content"] = [first, TEXT, second]
    assert sent(decoder) == expected
    assert key(ONE) != key(TWO)


async def test_a_picture_that_is_there_twice_is_referred_to_twice(client: ClientSession) -> None:
    async with upstream(encoded(key(ONE), key(ONE))) as encoder, upstream(says(ANSWER)) as decoder:
        await ask(client, encoder, decoder, chat(ONE, ONE))
    reference = {"type": "image_embeds", "image_embeds": {"image_grid_thw": [1, 4, 2]}, "uuid": key(ONE)}
    assert sent(decoder)["messages"][1]["content"] == [reference, reference]


@pytest.mark.parametrize("report", [encoded(key(TWO), metadata={}), encoded(), encoded(key(TWO))])
async def test_an_image_of_unknown_size_is_not_encoded_again_unnoticed(client: ClientSession, report: Script) -> None:
    async with upstream(report) as encoder, upstream(says(ANSWER)) as decoder:
        status, said = await ask(client, encoder, decoder, chat(TWO, ONE))
    assert (status, said["error"]["code"]) == (502, "encode_failed")
    assert "would have to encode it again" in said["error"]["message"]
    assert decoder.asked == []


async def test_text_goes_to_the_decoder_alone_as_it_is(client: ClientSession) -> None:
    async with upstream(says("{}")) as encoder, upstream(says(ANSWER)) as decoder:
        assert (await ask(client, encoder, decoder, chat(TEXT)))[0] == 200
    assert encoder.asked == []
    assert decoder.asked[0].body == chat(TEXT)


async def test_what_the_encoder_refuses_is_told_and_not_decoded(client: ClientSession) -> None:
    async with upstream(says("no such picture", 400)) as encoder, upstream(says(ANSWER)) as decoder:
        status, said = await ask(client, encoder, decoder, chat(ONE))
    assert (status, said["error"]["code"]) == (400, "encode_failed")
    assert "no such picture" in said["error"]["message"]
    assert decoder.asked == []


@pytest.mark.parametrize("report", ["{", '{"ec_transfer_params": 3}'])
async def test_an_ill_formed_report_is_told(client: ClientSession, report: str) -> None:
    async with upstream(says(report)) as encoder, upstream(says(ANSWER)) as decoder:
        status, said = await ask(client, encoder, decoder, chat(ONE))
    assert (status, said["error"]["code"]) == (502, "encode_failed")


async def told_at(client: ClientSession, url: str) -> Any:
    async with client.get(url + STATUS_PATH) as answer:
        return await answer.json()


def fails_first(times: int) -> Script:
    async def script(_request: web.Request, number: int) -> web.StreamResponse:
        return web.Response(
            text=ANSWER if number >= times else '{"error": "lost"}', status=200 + 300 * (number < times)
        )

    return script


@pytest.mark.parametrize(("failures", "status", "attempts"), [(1, 200, 2), (2, 500, 2)])
async def test_an_embedding_that_was_lost_is_encoded_once_more(
    client: ClientSession, failures: int, status: int, attempts: int
) -> None:
    async with upstream(encoded(key(ONE))) as encoder, upstream(fails_first(failures)) as decoder:
        assert (await ask(client, encoder, decoder, chat(ONE)))[0] == status
    assert len(encoder.asked) == len(decoder.asked) == attempts
    assert sent(decoder, 0) == sent(decoder, 1)


async def test_the_proxy_tells_how_often_both_were_asked_again(client: ClientSession) -> None:
    async with (
        upstream(encoded(key(ONE))) as encoder,
        upstream(fails_first(1)) as decoder,
        serving(Proxy(encoder.url, decoder.url)) as url,
    ):
        assert await told_at(client, url) == {"images": 0, "retries": 0}
        await post(client, url, chat(ONE))
        assert await told_at(client, url) == {"images": 2, "retries": 1}


async def test_an_error_of_text_is_handed_on(client: ClientSession) -> None:
    async with upstream(says("{}")) as encoder, upstream(fails_first(1)) as decoder:
        assert (await ask(client, encoder, decoder, chat(TEXT)))[0] == 500
    assert len(decoder.asked) == 1


async def test_what_is_no_chat_goes_to_the_decoder(client: ClientSession) -> None:
    async with upstream(says("{}")) as encoder, upstream(says('{"data": []}')) as decoder:
        proxy = Proxy(encoder.url, decoder.url)
        async with serving(proxy) as url:
            answer = await client.get(f"{url}/v1/models")
            assert await answer.json() == {"data": []}
    assert [asked.path for asked in decoder.asked] == ["/v1/models"]


@pytest.mark.parametrize("body", [b"[1]", b"{", b'"\xff"'])
async def test_what_is_no_json_object_is_refused(client: ClientSession, body: bytes) -> None:
    async with upstream(says("{}")) as encoder, upstream(says("{}")) as decoder:
        status, said = await ask(client, encoder, decoder, body)
    assert (status, said["error"]["type"]) == (400, "invalid_request_error")
    assert decoder.asked == []
