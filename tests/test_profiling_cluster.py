"""What a real cluster of two tells of the requests that it has answered: records, timelines, traces."""

import json
import time
import urllib.request
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import quote

import msgspec
import pytest
from engines import TOKENS, chat, picture, tokens
from metric_names import exposed, listed
from otlp_receiver import Receiver, receiving, tree
from serving import Serving, running_cluster

from chiasm.client import get_json, post_json, post_stream
from chiasm.supervisor import has_no_request
from chiasm.telemetry.records import EngineCall, EngineRecords, Phase, Transfer
from chiasm.telemetry.timelines.timeline import Timeline

pytestmark = [pytest.mark.engine, pytest.mark.timeout(600)]

CONFIG = """
served_model_name: model
gateway: {{port: 0}}
telemetry: {{otlp_endpoint: "{collector}"}}
"""
SETTLED_S = 60.0
WIDTH, FLOAT_BYTES = 192, 4  # of the built-in model's embeddings
CHAT = "/v1/chat/completions"
COUNTED = (
    ("encoder", "chiasm_published_embeddings_total"),
    ("encoder", "chiasm_published_bytes_total"),
    ("decoder", "chiasm_transfer_seconds_count"),
    ("decoder", "chiasm_transfer_bytes_total"),
    ("decoder", "chiasm_transfer_failures_total"),
)


@pytest.fixture(scope="module")
def receiver() -> Iterator[Receiver]:
    with receiving() as receiver:
        yield receiver


@pytest.fixture(scope="module")
def serving(tmp_path_factory: pytest.TempPathFactory, receiver: Receiver) -> Iterator[Serving]:
    config = CONFIG.format(collector=receiver.endpoint)
    with running_cluster(tmp_path_factory.mktemp("profiling"), config) as serving:
        yield serving


def ask(serving: Serving, body: dict[str, Any]) -> str:
    """Have a request answered in full; returns its id."""
    answer, headers = post_json(serving.url, CHAT, body)
    assert len(tokens(answer)) == TOKENS
    return headers["x-request-id"]


def ask_with(serving: Serving, body: dict[str, Any], **headers: str) -> tuple[Any, str]:
    """An answer to a request with such headers, and the request's id."""
    headers = {name.replace("_", "-"): value for name, value in headers.items()} | {"Content-Type": "application/json"}
    request = urllib.request.Request(serving.url + CHAT, json.dumps(body).encode(), headers)
    with urllib.request.urlopen(request, timeout=SETTLED_S) as answer:
        return json.load(answer), answer.headers["X-Request-Id"]


def records_of(serving: Serving, role: str, request: str) -> EngineRecords:
    return serving.records(role, f"call={request}")


def check_order(call: EngineCall, before: float, after: float) -> None:
    """All on one machine here, so on one clock; what vLLM's engine core timed may be told a little late."""
    assert before <= call.arrived < call.queued <= call.scheduled < call.first_token <= call.last_token <= after


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + SETTLED_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_request_with_an_image_is_remembered_by_its_encoder_and_its_decoder(serving: Serving) -> None:
    before = time.time()
    request = ask(serving, chat([picture(1, 196, 140)]))
    after = time.time()
    encoder, decoder = (records_of(serving, role, request) for role in ("encoder", "decoder"))
    assert all(after <= found.now <= time.time() for found in (encoder, decoder))

    [encode] = encoder.calls
    check_order(encode, before, after)
    assert (encode.output_tokens, encode.finish) == (0, "stop")
    assert encoder.transfers == ()

    [decode] = decoder.calls
    check_order(decode, before, after)
    assert (decode.output_tokens, decode.finish, decode.preemptions) == (TOKENS, "length", 0)
    assert decode.first_token < decode.last_token
    assert decode.arrived > encode.first_token
    assert decode.prompt_tokens > decode.cached_tokens

    [transfer] = serving.records("decoder", f"since={before}").transfers
    assert serving.records("decoder", f"call={request}&key={quote(transfer.key)}").transfers == (transfer,)
    assert transfer == Transfer(transfer.key, transfer.began, transfer.ended, transfer.nbytes)
    assert decode.queued <= transfer.began < transfer.ended < decode.first_token

    encoder, decoder = (serving.records(role, f"since={before}") for role in ("encoder", "decoder"))
    [looked] = [step for step in encoder.steps if step.images]
    assert (looked.images, looked.streams) == (1, 0)
    assert encode.scheduled <= looked.ended <= after
    assert 0 < looked.seconds < looked.ended - encode.scheduled + 0.1
    assert transfer.nbytes == looked.image_tokens * WIDTH * FLOAT_BYTES
    assert sum(step.prompt_tokens for step in decoder.steps) == decode.prompt_tokens - decode.cached_tokens
    assert sum(step.streams for step in decoder.steps) >= TOKENS - 1
    assert all(step.images == 0 and step.seconds > 0 and 0 <= step.kv_part <= 1 for step in decoder.steps)


def test_a_request_with_text_only_is_remembered_by_its_decoder_alone(serving: Serving) -> None:
    before = time.time()
    request = ask(serving, chat([], "Tell me something."))
    after = time.time()
    [call] = records_of(serving, "decoder", request).calls
    check_order(call, before, after)
    assert (call.output_tokens, call.finish) == (TOKENS, "length")
    assert serving.records("decoder", f"since={before}").transfers == ()
    assert records_of(serving, "encoder", request).calls == ()


def test_completions_are_known_by_their_id_too(serving: Serving) -> None:
    body = {"model": "model", "prompt": "once upon", "max_tokens": 4, "temperature": 0, "ignore_eos": True}
    _, headers = post_json(serving.url, "/v1/completions", body)
    [call] = records_of(serving, "decoder", headers["x-request-id"]).calls
    assert (call.output_tokens, call.finish) == (4, "length")


def test_an_image_that_was_seen_is_neither_encoded_nor_fetched_again(serving: Serving) -> None:
    body = chat([picture(2, 140, 140)])
    ask(serving, body)
    before = time.time()
    request = ask(serving, body)
    assert records_of(serving, "encoder", request).calls == ()
    assert serving.records("decoder", f"since={before}").transfers == ()


def test_a_request_whose_client_left_is_remembered_as_far_as_it_came(serving: Serving) -> None:
    before = time.time()
    body = chat([], "Tell me a long story.", max_tokens=3000, stream=True)
    with post_stream(serving.url, CHAT, body) as (events, headers):
        for _ in range(5):
            next(events)
    request = headers["x-request-id"]
    until(lambda: records_of(serving, "decoder", request).calls != ())
    [call] = records_of(serving, "decoder", request).calls
    check_order(call, before, time.time())
    assert call.finish == "abort"
    assert 0 < call.output_tokens < 3000


def test_what_engines_measure_is_in_their_metrics(serving: Serving) -> None:
    before = {role: phases(serving, role) for role in ("encoder", "decoder")}
    moved = {name: serving.metric(*name) for name in COUNTED}
    ask(serving, chat([picture(3, 140, 196), picture(4, 140, 196)]))
    after = {role: phases(serving, role) for role in ("encoder", "decoder")}
    rises = {role: {name: after[role][name] - before[role][name] for name in after[role]} for role in after}
    assert rises["encoder"] == {"preprocess": 2, "encode": 2, "transfer": 0, "prefill": 0, "decode": 0}
    assert rises["decoder"] == {"preprocess": 1, "encode": 0, "transfer": 2, "prefill": 1, "decode": 1}
    nbytes = serving.metric("decoder", "chiasm_transfer_bytes_total") - moved["decoder", "chiasm_transfer_bytes_total"]
    assert nbytes > 0
    assert {name: serving.metric(*name) - value for name, value in moved.items()} == {
        ("encoder", "chiasm_published_embeddings_total"): 2,
        ("encoder", "chiasm_published_bytes_total"): nbytes,
        ("decoder", "chiasm_transfer_seconds_count"): 2,
        ("decoder", "chiasm_transfer_bytes_total"): nbytes,
        ("decoder", "chiasm_transfer_failures_total"): 0,
    }
    assert 'chiasm_transfer_failures_total{code="missing"' in serving.metrics("decoder")


def test_the_docs_list_what_engines_expose_and_nothing_else(serving: Serving) -> None:
    ask(serving, chat([picture(10, 140, 140)]))
    [decoder] = [worker for worker in serving.status()["workers"] if worker["role"] == "decoder"]
    token = serving.front_end("decoder").environ()["VLLM_API_KEY"]
    for verb in (f"pause?since={time.time()}", "resume"):  # as only thieves are otherwise
        post_json(decoder["url"], f"/v1/chiasm/{verb}", {}, token)
    pages = [exposed(serving.metrics(role).encode()) for role in ("encoder", "decoder")]
    ours = {name: one for page in pages for name, one in page.items() if name.startswith("chiasm_")}
    assert ours == listed("Engines")


def phases(serving: Serving, role: str) -> dict[str, float]:
    """How often each phase was measured by an engine."""
    names = ("preprocess", "encode", "transfer", "prefill", "decode")
    return {name: serving.metric(role, f'chiasm_phase_seconds_count{{phase="{name}"}}') for name in names}


def test_an_engine_says_whether_it_has_a_request(serving: Serving) -> None:
    until(lambda: all(has_no_request(serving.metrics(role)) for role in ("encoder", "decoder")))
    body = chat([], "Tell me another long story.", max_tokens=3000, stream=True)
    with post_stream(serving.url, CHAT, body) as (events, _):
        for _ in range(5):
            next(events)
        assert not has_no_request(serving.metrics("decoder"))
        assert has_no_request(serving.metrics("encoder"))
    until(lambda: has_no_request(serving.metrics("decoder")))


@pytest.mark.parametrize("role", ["encoder", "decoder"])
def test_engines_log_nothing_of_their_steps(serving: Serving, role: str) -> None:
    ask(serving, chat([picture(5, 140, 140)]))
    assert serving.records(role, "since=0").steps
    said = serving.engine_log(role)
    assert "Started server process" in said
    assert "Iteration(" not in said


# -- timelines -----------------------------------------------------------------------------------------------------


def timeline_of(serving: Serving, request: str) -> Timeline:
    return msgspec.convert(get_json(serving.url, f"/v1/chiasm/requests/{request}"), Timeline)


@pytest.mark.parametrize("stream", [False, True])
def test_the_phases_of_a_request_add_up_to_what_its_client_waited(serving: Serving, stream: bool) -> None:
    body = chat([picture(6 + stream, 196, 196)], max_tokens=64, stream=stream)
    began = time.monotonic()
    if stream:
        with post_stream(serving.url, CHAT, body) as (events, headers):
            for _ in events:
                pass
    else:
        _, headers = post_json(serving.url, CHAT, body)
    waited = time.monotonic() - began
    timeline = timeline_of(serving, headers["x-request-id"])
    assert (timeline.missing, timeline.outcome) == ((), "answered")
    assert {span.phase for span in timeline.spans} == set(Phase)
    assert all(span.worker == "encoder-0" for span in timeline.spans if span.phase is Phase.ENCODE)
    # The gateway begins to count when it has read the headers, and ends when it has sent the last byte.
    assert sum(timeline.self_seconds.values()) == pytest.approx(waited, rel=0.02)


def test_an_answer_carries_its_own_timeline(serving: Serving) -> None:
    answer, request = ask_with(serving, chat([picture(8, 140, 140)]), X_Chiasm_Timeline="true")
    timeline = msgspec.convert(answer["chiasm"]["timeline"], Timeline)
    assert (timeline.request, timeline.missing) == (request, ())
    assert {span.phase for span in timeline.spans} == set(Phase)


# -- traces --------------------------------------------------------------------------------------------------------


def test_a_trace_leads_from_the_gateway_into_both_engines(serving: Serving, receiver: Receiver) -> None:
    trace, parent = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
    ask_with(serving, chat([picture(9, 140, 140)]), traceparent=f"00-{trace}-{parent}-01")
    until(lambda: [span.name for span in receiver.of(trace)].count("llm_request") == 2)
    until(lambda: "chat model" in {span.name for span in receiver.of(trace)})
    spans = receiver.of(trace)
    children = tree(spans)
    assert children[parent] == ["chat model"]
    assert children["chat model"] == [
        *("fetch", "encode_queue", "encode encoder-0", "decode_queue", "decode decoder-0")
    ]
    assert {"preprocess", "encode", "llm_request"} <= set(children["encode encoder-0"])
    assert {"preprocess", "transfer", "prefill", "decode", "llm_request"} <= set(children["decode decoder-0"])
    assert {span.service for span in spans} == {
        *("chiasm-gateway", "chiasm-scheduler", "chiasm-encoder-0", "chiasm-decoder-0")
    }
