"""A whole cluster as a user starts it: `chiasm serve` with Ray, the gateway, the scheduler, and real engines."""

import asyncio
import base64
import http.client
import json
import os
import re
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import click
import openai
import psutil
import pytest
from chat_inputs import bad_chats, data_url, png
from engines import ANSWER_TIMEOUT_S, CASES, chat, picture, tokens
from serving import Serving, running_serving

from bench.clients import find_aiperf
from bench.load_generators import AIPerf, Load, Target, VllmBench, run_load
from chiasm.ask import chat_body
from chiasm.client import EndpointError, get_json, post_json
from chiasm.demo import CASES as DEMO
from chiasm.demo import Case as DemoCase
from chiasm.models.builtin import picture_file
from chiasm.wire.settings import RUNTIME_VARIABLE

pytestmark = [pytest.mark.engine, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def serving(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    with running_serving(tmp_path_factory.mktemp("serving")) as serving:
        yield serving


@pytest.mark.parametrize("case", CASES)
def test_the_cluster_answers_as_the_whole(serving: Serving, case: str) -> None:
    split = serving.ask(CASES[case])
    whole = serving.ask_whole(CASES[case])
    assert tokens(split) == tokens(whole)
    assert split["usage"] == whole["usage"]


@pytest.mark.parametrize("case", DEMO, ids=lambda case: case.question)
def test_who_names_no_temperature_gets_the_true_answer(serving: Serving, case: DemoCase) -> None:
    pictures = [picture_file(name) for name in case.pictures]
    answer = serving.ask(chat_body(None, pictures, case.question, max_tokens=32))
    assert answer["choices"][0]["message"]["content"] == case.truth


def test_each_engine_holds_its_half_only(serving: Serving) -> None:
    encoder, decoder = serving.report("encoder")["weights"], serving.report("decoder")["weights"]
    assert encoder["visual"] > 0
    assert encoder.get("language_model", 0) == 0
    assert decoder["language_model"] > 0
    assert "visual" not in decoder


@pytest.mark.parametrize("role", ["encoder", "decoder"])
def test_engines_have_the_priority_of_who_serves(serving: Serving, role: str) -> None:
    assert serving.front_end(role).nice() == psutil.Process(serving.process.pid).nice()


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="engines have a core each only where there are two")
def test_whatever_is_no_engine_keeps_off_the_decoders_cores(serving: Serving) -> None:
    encoding, decoding = (set(serving.front_end(role).cpu_affinity()) for role in ("encoder", "decoder"))
    assert len(encoding) == len(decoding) == len(os.sched_getaffinity(0)) // 2
    actors = [
        process
        for process in psutil.Process(serving.process.pid).children(recursive=True)
        if process.name().startswith(("raylet", "gcs_server", "ray::"))
    ]
    assert {process.name() for process in actors} >= {"ray::Gateway", "ray::Scheduler", "ray::DecoderWorker"}
    assert [process.name() for process in actors if decoding.intersection(process.cpu_affinity())] == []


def test_one_encode_and_one_transfer_for_each_distinct_picture(serving: Serving) -> None:
    """Also for two requests at once, and for a picture that was seen before."""
    before_encoder, before_decoder = serving.report("encoder")["connector"], serving.report("decoder")["connector"]
    body = chat([picture(31, 224, 224), picture(32, 224, 224)])
    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(serving.ask, [body, body])
    third = serving.ask(body)
    assert tokens(first) == tokens(second) == tokens(third)
    encoder, decoder = serving.report("encoder")["connector"], serving.report("decoder")["connector"]
    assert encoder["encodes"] - before_encoder["encodes"] == 2
    assert encoder["transfers"] - before_encoder["transfers"] == 2
    assert decoder["loads"] > before_decoder["loads"]


def test_completions_take_text(serving: Serving) -> None:
    body = {"model": "model", "prompt": "once upon", "max_tokens": 8, "temperature": 0, "return_token_ids": True}
    split, _ = post_json(serving.url, "/v1/completions", body)
    whole, _ = post_json(serving.whole.url, "/v1/completions", body, serving.whole.spec.token)
    assert split["choices"][0]["token_ids"] == whole["choices"][0]["token_ids"]


def test_curl_gets_an_answer(serving: Serving) -> None:
    body = json.dumps({"model": "model", "max_tokens": 4, "messages": [{"role": "user", "content": "Hello"}]})
    url = f"{serving.url}/v1/chat/completions"
    command = ["curl", "-sS", "--max-time", "60", url, "-H", "Content-Type: application/json", "-d", body]
    run = subprocess.run(command, capture_output=True, text=True, check=True, timeout=90)
    assert json.loads(run.stdout)["usage"]["completion_tokens"] > 0


def test_an_encoder_does_not_answer_strangers(serving: Serving) -> None:
    [encoder] = [worker for worker in serving.status()["workers"] if worker["role"] == "encoder"]
    assert encoder["url"].startswith("http://127.0.0.1:")
    for path in ("/v1/models", "/metrics", "/version"):
        with pytest.raises(EndpointError, match="401"):
            get_json(encoder["url"], path)
    for path in ("/v1/chat/completions", "/invocations"):
        with pytest.raises(EndpointError, match="401"):
            post_json(encoder["url"], path, chat([]))


def test_secrets_are_for_their_owner_only(serving: Serving) -> None:
    runtime = Path(serving.front_end("encoder").environ()[RUNTIME_VARIABLE])
    assert runtime.stat().st_mode & 0o077 == 0
    assert (runtime / "keys.json").stat().st_mode & 0o077 == 0
    assert json.loads((runtime / "keys.json").read_text())["client_secret"] not in " ".join(
        serving.front_end("encoder").cmdline()
    )


def test_status_shows_the_workers(serving: Serving) -> None:
    command = [str(Path(sys.executable).parent / "chiasm"), "status", "--endpoint", serving.url]
    run = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    assert "encoder-0" in run.stdout
    assert "decoder-0" in run.stdout


def test_metrics_count_what_was_asked(serving: Serving) -> None:
    with urllib.request.urlopen(f"{serving.url}/metrics", timeout=10) as answer:
        text = answer.read().decode()
    [count] = re.findall(r'^chiasm_requests_total\{outcome="answered"\} ([0-9.]+)$', text, re.MULTILINE)
    assert float(count) > 0


@pytest.mark.parametrize("role", ["encoder", "decoder"])
def test_a_killed_engine_is_started_again(serving: Serving, role: str) -> None:
    """Killed between two requests: the second gets its answer, and nobody sends it again."""
    expected = tokens(serving.ask(chat([picture(41)])))
    victim = serving.front_end(role)
    victim.kill()
    _wait_until(lambda: not victim.is_running(), 30)
    assert tokens(serving.ask(chat([picture(42)]))) == tokens(serving.ask_whole(chat([picture(42)])))
    assert tokens(serving.ask(chat([picture(41)]))) == expected  # its embedding died with the encoder
    assert serving.status()["ready"]


def test_a_killed_scheduler_costs_no_request(serving: Serving) -> None:
    """Killed while one request generates and another is on its way: Ray starts it again, and both are answered."""
    long, short = chat([picture(43)], max_tokens=600), chat([picture(44)])
    victim = serving.scheduler()
    with ThreadPoolExecutor(2) as pool:
        generating = pool.submit(serving.ask, long)
        _wait_until(lambda: serving.metric("decoder", "vllm:num_requests_running") == 1, 60)
        victim.kill()
        asked = pool.submit(serving.ask, short)
        assert tokens(asked.result()) == tokens(serving.ask_whole(short))
        assert tokens(generating.result()) == tokens(serving.ask_whole(long))
    assert serving.scheduler().pid != victim.pid
    status = serving.status()
    assert status["ready"]
    assert (status["encoding"], status["withheld"], status["decoding"]) == (0, 0, 0)


def _wait_until(condition: Callable[[], bool], timeout_s: float) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_bad_picture_is_refused_and_costs_nothing_else(serving: Serving) -> None:
    broken = "data:image/png;base64," + base64.b64encode(b"not a picture").decode()
    with pytest.raises(EndpointError, match="400"):
        serving.ask(chat([broken]))
    assert tokens(serving.ask(chat([picture(1)])))


def _traces_of_requests(serving: Serving) -> list[object]:
    """Whatever an engine that was asked anything would show differently."""
    counted = re.compile(
        r"^(?:http_requests_total\{.*completions|vllm:(?:prompt_tokens|request_success)_total).*$", re.M
    )
    troubled = re.compile(r"^.*(?:ERROR|Traceback|Exception).*$", re.MULTILINE)
    return [
        found
        for role in ("encoder", "decoder")
        for found in (counted.findall(serving.metrics(role)), troubled.findall(serving.engine_log(role)))
    ]


def test_no_bad_request_reaches_an_engine(serving: Serving) -> None:
    context = get_json(serving.url, "/v1/models")["data"][0]["max_model_len"]
    assert tokens(serving.ask(chat([picture(71)])))  # so that there is something to count
    before = _traces_of_requests(serving)
    assert all(before[0::2])
    largest = data_url(png(size=(196, 196)))  # 49 tokens: larger ones are made as small
    bad = {name: body for name, (body, _) in bad_chats(context, [largest] * (context // 49 + 1)).items()}
    bad |= {"another model": chat([]) | {"model": "gpt"}, "an oversize body": chat([], "x" * (65 << 20))}
    for name, body in bad.items():
        status, answer = _post(serving, json.dumps(body).encode())
        assert 400 <= status < 500, name
        assert len(json.loads(answer)["error"]["message"]) > 10, name
    for raw in (b"{", b'{"a": NaN}', b'{"a": "\\ud800"}', b"[" * 100_000):
        assert _post(serving, raw)[0] == 400, raw[:20]
    assert _traces_of_requests(serving) == before
    assert tokens(serving.ask(chat([picture(72)]))) == tokens(serving.ask_whole(chat([picture(72)])))
    assert _traces_of_requests(serving) != before


def _post(serving: Serving, raw: bytes) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection(serving.url.removeprefix("http://"), timeout=ANSWER_TIMEOUT_S)
    with closing(connection):
        connection.request("POST", "/v1/chat/completions", raw, {"Content-Type": "application/json"})
        answer = connection.getresponse()
        return answer.status, answer.read()


@pytest.mark.parametrize("stream", [True, False])
def test_a_client_that_leaves_ends_its_generation(serving: Serving, stream: bool) -> None:
    def running() -> float:
        return serving.metric("decoder", "vllm:num_requests_running")

    def generated() -> float:
        return serving.metric("decoder", "vllm:generation_tokens_total")

    _wait_until(lambda: running() == 0, 30)
    before, asked = generated(), 3500
    connection = http.client.HTTPConnection(serving.url.removeprefix("http://"), timeout=ANSWER_TIMEOUT_S)
    with closing(connection):
        body = chat([picture(73)], max_tokens=asked, stream=stream)
        connection.request("POST", "/v1/chat/completions", json.dumps(body), {"Content-Type": "application/json"})
        _wait_until(lambda: running() == 1, 60)
    _wait_until(lambda: running() == 0, 30)
    assert generated() - before < asked
    assert serving.status()["decoding"] == 0


# What users of OpenAI's client write, and the load generators that benchmarks are made with.


@pytest.fixture
def client(serving: Serving) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(
        base_url=f"{serving.url}/v1", api_key="unused", timeout=ANSWER_TIMEOUT_S, max_retries=0
    ) as client:
        yield client


def part(url: str, **more: str) -> Any:
    return {"type": "image_url", "image_url": {"url": url, **more}}


TEXT: Any = {"type": "text", "text": "What is in this image?"}
VISION: dict[str, list[Any]] = {
    "text before the image": [TEXT, part(picture(61))],
    "image before the text": [part(picture(61)), TEXT],
    "several images": [TEXT, part(picture(62)), part(picture(63, 200, 60))],
    "detail": [TEXT, part(picture(64), detail="low"), part(picture(64), detail="high")],
}


@pytest.mark.parametrize("content", VISION)
def test_openais_vision_examples(client: openai.OpenAI, content: str) -> None:
    messages: Any = [
        {"role": "system", "content": "You are a helpful assistant."},
        {"role": "user", "content": VISION[content]},
    ]
    answer = client.chat.completions.create(model="model", messages=messages, max_tokens=8)
    assert (answer.object, answer.model, len(answer.choices)) == ("chat.completion", "model", 1)
    assert answer.choices[0].message.role == "assistant"
    assert answer.choices[0].finish_reason in ("stop", "length")
    images = sum(part["type"] == "image_url" for part in VISION[content])
    text_only = client.chat.completions.create(
        model="model", messages=[messages[0], {"role": "user", "content": [TEXT]}], max_tokens=1
    )
    assert answer.usage is not None
    assert text_only.usage is not None
    assert answer.usage.prompt_tokens >= text_only.usage.prompt_tokens + 4 * images  # image tokens are counted


def test_openais_stream_options(client: openai.OpenAI) -> None:
    asked: Any = {"model": "model", "messages": [{"role": "user", "content": VISION["several images"]}]}
    asked |= {"max_tokens": 8, "temperature": 0, "extra_body": {"ignore_eos": True}}
    whole = client.chat.completions.create(**asked)
    chunks = list(client.chat.completions.create(**asked, stream=True, stream_options={"include_usage": True}))
    assert "".join(c.choices[0].delta.content or "" for c in chunks[:-1]) == whole.choices[0].message.content
    assert [c.choices[0].finish_reason for c in chunks[:-1]] == [None] * (len(chunks) - 2) + ["length"]
    assert (chunks[-1].choices, chunks[-1].usage) == ([], whole.usage)
    assert all(c.usage is None for c in chunks[:-1])


def test_a_streams_framing(client: openai.OpenAI) -> None:
    """The role with the first token, a token an event, the reason on the last token's event, no usage unless asked."""
    extra = {"ignore_eos": True, "return_token_ids": True}
    messages: Any = [{"role": "user", "content": VISION["text before the image"]}]
    with client.chat.completions.with_streaming_response.create(
        model="model", messages=messages, max_tokens=8, stream=True, extra_body=extra
    ) as response:
        assert response.headers["content-type"].startswith("text/event-stream")
        assert response.headers["x-accel-buffering"] == "no"
        events = response.read().decode().split("\n\n")
    assert events[-2:] == ["data: [DONE]", ""]
    opening, *tokens = [json.loads(event.removeprefix("data: ")) for event in events[:-2]]
    assert opening["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    choices = [event["choices"][0] for event in tokens]
    assert all(choice["token_ids"] for choice in choices)  # no event without a token ...
    assert sum(len(choice["token_ids"]) for choice in choices) == 8
    assert len(choices) > 4  # ... and seldom two in one, where the engine's server falls behind its engine
    assert [choice.get("finish_reason") for choice in choices] == [None] * (len(choices) - 1) + ["length"]
    assert not any("usage" in event for event in (opening, *tokens))


async def test_openais_async_client(serving: Serving) -> None:
    async with openai.AsyncOpenAI(base_url=f"{serving.url}/v1", api_key="unused", timeout=ANSWER_TIMEOUT_S) as client:

        async def ask(seed: int) -> str | None:
            messages: Any = [{"role": "user", "content": [TEXT, part(picture(seed))]}]
            answer = await client.chat.completions.create(
                model="model", messages=messages, max_tokens=8, temperature=0, extra_body={"ignore_eos": True}
            )
            return answer.choices[0].message.content

        together = await asyncio.gather(*map(ask, range(65, 69)))
        assert together == [await ask(seed) for seed in range(65, 69)]


def test_openais_errors_and_request_ids(client: openai.OpenAI) -> None:
    hello: Any = [{"role": "user", "content": "Hello"}]
    assert [model.id for model in client.models.list()] == ["model"]
    assert client.models.retrieve("model").id == "model"
    with pytest.raises(openai.NotFoundError) as unknown:
        client.models.retrieve("other")
    assert (unknown.value.code, unknown.value.param) == ("model_not_found", "model")
    with pytest.raises(openai.NotFoundError, match="'model'"):
        client.chat.completions.create(model="other", messages=hello)
    with pytest.raises(openai.BadRequestError) as bad:
        client.chat.completions.create(model="model", messages=[])
    assert bad.value.type == "invalid_request_error"
    assert bad.value.request_id
    with pytest.raises(openai.BadRequestError, match="4096"):
        client.chat.completions.create(model="model", messages=[{"role": "user", "content": "long " * 5000}])
    raw = client.chat.completions.with_raw_response.create(model="model", messages=hello, max_tokens=2)
    assert raw.request_id == raw.headers["X-Request-Id"] == raw.parse()._request_id


@pytest.mark.parametrize("name", ["vllm", "aiperf"])
def test_load_generators_get_an_answer_to_every_request(serving: Serving, name: str, tmp_path: Path) -> None:
    try:
        generator = VllmBench() if name == "vllm" else AIPerf(find_aiperf())
    except click.UsageError as missing:
        pytest.skip(missing.message)  # AIPerf has an environment of its own: make aiperf, as CI does
    target = Target(serving.url, "model", serving.whole.spec.model)
    point = run_load(generator, target, Load(concurrency=8, requests=16), tmp_path, 300)
    assert (point["completed"], point["failed"]) == (16, 0)
