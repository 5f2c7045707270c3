"""One request: what is sent, what counts as a token, and what each failure is called."""

import asyncio
import json
import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
from aiohttp import web
from scripted_answers import DONE, answering, chunk, event, role, serving, stream, usage

from bench.load.answers import Answer
from bench.load.asking import Endpoint, Planned, Unreachable, ask, new_session, served_model

PLANNED = Planned(1.5, "carrier", {"messages": [{"role": "user", "content": "?"}], "max_tokens": 3})
TIMEOUT_S = 15.0


def asked(
    url: str, key: str | None = None, timeout_s: float = TIMEOUT_S, body: Mapping[str, Any] = PLANNED.body
) -> Answer:
    async def main() -> Answer:
        async with new_session(timeout_s) as client:
            return await ask(client, Endpoint(url, "model", key), replace(PLANNED, body=body), 7, time.monotonic())

    return asyncio.run(main())


def error_of(*pieces: bytes) -> str:
    with answering(*pieces) as url:
        answer = asked(url)
    assert answer.error is not None
    assert url in answer.error
    return answer.error


def test_every_event_with_choices_is_a_chunk_and_the_usage_is_none() -> None:
    with answering(chunk(""), chunk("a"), chunk("bc", "stop"), usage(70, 3), DONE) as url:
        answer = asked(url)
    assert answer.error is None
    assert (answer.number, answer.kind, answer.due_s) == (7, "carrier", 1.5)
    assert len(answer.chunks_s) == 3
    assert (answer.prompt_tokens, answer.output_tokens) == (70, 3)
    assert 0 <= answer.sent_s <= answer.chunks_s[0]
    assert answer.chunks_s == tuple(sorted(answer.chunks_s))
    assert answer.chunks_s[-1] <= answer.ended_s


def test_a_leading_event_that_only_names_a_role_is_a_chunk_but_no_token() -> None:
    with answering(role(), chunk("a"), chunk(""), chunk("b", "stop"), DONE) as url:
        answer = asked(url)
    assert (len(answer.chunks_s), len(answer.tokens_s), answer.output_tokens) == (4, 3, 3)


def test_one_that_names_a_role_beside_a_token_is_a_token() -> None:
    first = event({"choices": [{"index": 0, "delta": {"role": "assistant", "content": "a"}}]})
    with answering(first, chunk("b", "stop"), DONE) as url:
        assert asked(url).output_tokens == 2


@pytest.mark.parametrize("limit", ["max_tokens", "max_completion_tokens"])
def test_an_answer_shorter_than_its_request_decides_is_an_error(limit: str) -> None:
    with answering(chunk("a"), chunk("b", "length"), usage(70, 2), DONE) as url:
        assert asked(url, body={limit: 3, "ignore_eos": True}).error == (
            f"{url} gave 2 of 3 tokens, and was to go on (ignore_eos, as vLLM has it)"
        )
        assert asked(url, body={limit: 2, "ignore_eos": True}).ok
        assert asked(url, body={limit: 3}).ok


def test_without_usage_chunks_are_counted() -> None:
    with answering(chunk(), chunk("b", "length"), DONE) as url:
        answer = asked(url)
    assert (answer.error, answer.prompt_tokens, answer.output_tokens) == (None, None, 2)


def test_usage_beside_choices_is_read_and_the_last_one_counts() -> None:
    choices = [{"index": 0, "delta": {}, "finish_reason": "stop"}]
    first, last = ({"prompt_tokens": 5, "completion_tokens": count} for count in (1, 9))
    with answering(event({"choices": choices, "usage": first}), event({"choices": choices, "usage": last})) as url:
        answer = asked(url)
    assert (answer.output_tokens, len(answer.chunks_s)) == (9, 2)


def test_each_chunk_has_the_time_at_which_it_came() -> None:
    told: list[float] = []

    async def chat(request: web.Request) -> web.StreamResponse:
        answer = web.StreamResponse()
        await answer.prepare(request)
        for piece in (chunk(), chunk("b", "stop")):
            await asyncio.sleep(0.2)
            await answer.write(piece)
            told.append(time.monotonic())
        return answer

    begun = time.monotonic()
    with serving(chat) as url:
        answer = asked(url)
    assert answer.ttft_s >= 0.19  # what is waited for cannot have come earlier
    assert answer.e2el_s >= 0.39
    assert answer.ended_s >= answer.e2el_s
    assert answer.sent_s < told[0] - begun


def test_comments_missing_spaces_and_a_missing_done_are_no_trouble() -> None:
    pieces = [b": ping\n\n", chunk().replace(b"data: ", b"data:"), chunk("b", "stop").replace(b"\n", b"\r\n")]
    with answering(*pieces) as url:
        assert asked(url).error is None


def test_the_last_event_counts_though_no_empty_line_follows_it() -> None:
    with answering(chunk(), chunk("b", "stop").strip()) as url:
        answer = asked(url)
    assert (answer.error, len(answer.chunks_s)) == (None, 2)


def test_chunks_that_are_cut_anywhere_are_read() -> None:
    whole = chunk("größer") + chunk("b", "stop") + usage(2, 2) + DONE
    with answering(*(whole[at : at + 1] for at in range(len(whole)))) as url:
        answer = asked(url)
    assert (answer.error, len(answer.chunks_s), answer.prompt_tokens) == (None, 2, 2)


def test_the_body_is_the_plans_streamed_with_usage_and_the_key_is_shown() -> None:
    seen: list[tuple[Any, str | None]] = []

    async def chat(request: web.Request) -> web.StreamResponse:
        seen.append((await request.json(), request.headers.get("Authorization")))
        return await stream(request, [chunk("a", "stop")])

    with serving(chat) as url:
        asked(url + "/", key="secret")
        asked(url)
    body = {**PLANNED.body, "model": "model", "stream": True, "stream_options": {"include_usage": True}}
    assert seen == [(body, "Bearer secret"), (body, None)]


def test_phases_are_a_gateways() -> None:
    with answering(chunk("a", "stop"), Server_Timing="encode;dur=12.5, prefill;dur=3") as url:
        assert asked(url).phases_ms == {"encode": 12.5, "prefill": 3.0}


def test_an_error_in_the_stream_is_named_and_what_came_before_is_kept() -> None:
    with answering(chunk(), event({"error": {"message": "the engine died", "code": 500}}), DONE) as url:
        answer = asked(url)
    assert answer.error == f"{url} broke the answer off: the engine died"
    assert len(answer.chunks_s) == 1


def test_an_error_may_be_a_mere_text() -> None:
    assert error_of(event({"error": "no room"})).endswith("broke the answer off: no room")


def test_a_stream_that_ends_without_a_reason_is_an_error() -> None:
    assert "without a finish_reason, after 2 chunks" in error_of(chunk(), chunk(), DONE)


def test_an_answer_that_was_given_up_is_an_error() -> None:
    assert "'abort'" in error_of(chunk(), chunk("", "abort"), DONE)


@pytest.mark.parametrize(
    "data", [b"data: {nonsense\n\n", b"data: [1]\n\n", b'data: {"choices": 5}\n\n', b"data: \xff\n\n"]
)
def test_what_cannot_be_read_is_an_error(data: bytes) -> None:
    assert error_of(chunk(), data).startswith("cannot read what")


def test_an_answer_that_is_no_stream_is_an_error() -> None:
    async def chat(_request: web.Request) -> web.StreamResponse:
        return web.json_response({"choices": [{"message": {"content": "a"}, "finish_reason": "stop"}]})

    with serving(chat) as url:
        assert "application/json" in str(asked(url).error)


def test_a_stream_that_breaks_off_is_an_error() -> None:
    async def chat(request: web.Request) -> web.StreamResponse:
        answer = web.StreamResponse()
        await answer.prepare(request)
        await answer.write(chunk("a", "stop"))
        assert request.transport is not None
        request.transport.close()
        return answer

    with serving(chat) as url:
        answer = asked(url)
    assert "not all of it" in str(answer.error)
    assert not answer.ok


@pytest.mark.parametrize(
    ("said", "named"),
    [
        (json.dumps({"error": {"message": "too long"}}), "too long"),
        (json.dumps({"detail": "elsewhere"}), '{"detail": "elsewhere"}'),
        ("plain\n", "plain"),
        ("x" * 5000, "x" * 300),
    ],
)
def test_a_refusal_is_named_with_its_status(said: str, named: str) -> None:
    async def chat(_request: web.Request) -> web.StreamResponse:
        return web.Response(status=429, text=said)

    with serving(chat) as url:
        answer = asked(url)
    assert str(answer.error).strip() == f"{url} answered 429: {named}"
    assert answer.chunks_s == ()


def test_a_server_that_refuses_stream_options_is_told_of() -> None:
    async def chat(_request: web.Request) -> web.StreamResponse:
        return web.json_response({"error": {"message": "stream_options: extra field"}}, status=400)

    with serving(chat) as url:
        assert "include_usage is needed" in str(asked(url).error)


def test_who_does_not_answer_in_time_is_an_error() -> None:
    async def chat(_request: web.Request) -> web.StreamResponse:
        await asyncio.Event().wait()
        raise AssertionError

    with serving(chat) as url:
        assert asked(url, timeout_s=0.2).error == f"{url} did not end the answer within 0.2 s"


@pytest.mark.parametrize("url", ["http://127.0.0.1:9", "nowhere", "http://[", "ftp://127.0.0.1"])
def test_nobody_there_is_an_error(url: str) -> None:
    answer = asked(url)
    assert url in str(answer.error)
    assert answer.chunks_s == ()


def test_the_first_model_is_named() -> None:
    with pytest.raises(Unreachable, match=r"Is it running"):
        served_model("http://127.0.0.1:9", None)
