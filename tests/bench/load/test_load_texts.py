"""Prompts have exactly as many tokens as were asked for."""

import random

import pytest
from aiohttp import web
from scripted_answers import Handler, answering, chunk, serving

from bench.load.asking import Endpoint
from bench.load.texts import NotTokenized, text_for, text_of
from chiasm.models.tiny import Family, build_processor


def vocabulary(size: int, grows: int = 0) -> dict[str, Handler]:
    """Of a token for each `size` bytes of a word, the space before it included; whole texts count `grows` more."""

    async def tokenize(request: web.Request) -> web.StreamResponse:
        body = await request.json()
        assert not body["add_special_tokens"]
        words = body["prompt"].replace(" ", "\n ").split("\n") if body["prompt"] else []
        pieces = [word[at : at + size] for word in words for at in range(0, len(word), size)]
        tokens = [int.from_bytes(piece.encode(), "big") for piece in pieces] + [32] * grows
        return web.json_response({"tokens": tokens, "count": len(tokens)})

    async def detokenize(request: web.Request) -> web.StreamResponse:
        tokens = (await request.json())["tokens"]
        text = b"".join(token.to_bytes((token.bit_length() + 7) // 8, "big") for token in tokens)
        return web.json_response({"prompt": text.decode()})

    return {"/tokenize": tokenize, "/detokenize": detokenize}


async def no_chat(_request: web.Request) -> web.StreamResponse:
    raise AssertionError


def test_one_seed_draws_one_text_of_printable_bytes() -> None:
    text = text_of(50, random.Random(1))
    assert text == text_of(50, random.Random(1)) != text_of(50, random.Random(2))
    assert (len(text.encode()), text.isprintable()) == (50, True)


@pytest.mark.engine  # none is started, but importing torch takes as long
@pytest.mark.timeout(300)
def test_a_letter_is_a_token_of_the_bench_model() -> None:
    import torch  # noqa: F401  # before transformers: see chiasm.plugins.repair_torch_companions

    tokenizer = build_processor(Family.QWEN2_5_VL).tokenizer
    for tokens in (0, 1, 500):
        assert len(tokenizer(text_of(tokens, random.Random(tokens))).input_ids) == tokens


@pytest.mark.parametrize("size", [1, 3, 100])
def test_any_vocabularys_tokens_are_counted_by_its_server(size: int) -> None:
    with serving(no_chat, vocabulary(size)) as url:
        text = text_for(Endpoint(url, "model"), 40, random.Random(1))
        other = text_for(Endpoint(url, "model"), 40, random.Random(2))
    pieces = [word[at : at + size] for word in text.replace(" ", "\n ").split("\n") for at in range(0, len(word), size)]
    assert len(pieces) == 40
    assert text != other


def test_a_vocabulary_that_never_comes_out_even_is_refused() -> None:
    with serving(no_chat, vocabulary(3, grows=1)) as url, pytest.raises(NotTokenized, match="another length"):
        text_for(Endpoint(url, "model"), 40, random.Random(1))


def test_a_server_without_a_tokenizer_is_refused() -> None:
    with answering(chunk()) as url, pytest.raises(NotTokenized, match=r"answered 404.*POST /tokenize"):
        text_for(Endpoint(url, "model"), 40, random.Random(1))
