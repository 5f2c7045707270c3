"""Work stealing on real engines: one encoder with a text engine on its cores, and one decoder that is soon busy."""

import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from engines import ANSWER_TIMEOUT_S, chat, picture, tokens
from metric_names import monitored
from prometheus_client.parser import text_string_to_metric_families
from serving import START_TIMEOUT_S, Serving, running_cluster

from chiasm.client import get_json, post_json, post_stream

pytestmark = [pytest.mark.engine, pytest.mark.timeout(900)]

# The decoder takes one request and the next one waits. What is stolen goes back for many images, and not for one.
CONFIG = """
served_model_name: model
gateway: {port: 0}
scheduler: {stealing: yield, itl_slo_ms: 2000, look_ahead: 0}
encoders: {text_engine_args: [--max-num-seqs=2]}
decoders: {engine_args: [--max-num-seqs=1]}
"""
LONG = 600
LONGER = 1500
MANY = 48  # images
SETTLED_S = 60.0


@pytest.fixture(scope="module")
def serving(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    with running_cluster(tmp_path_factory.mktemp("stealing"), CONFIG) as serving:
        yield serving


class Stream(threading.Thread):
    """A streamed answer on its way; `reason` is None for as long as it is not complete."""

    def __init__(self, serving: Serving, body: dict[str, Any]) -> None:
        super().__init__(daemon=True)
        self.tokens: list[int] = []
        self.reason: str | None = None
        self._url = serving.url
        self._body = body | {"stream": True}
        self._leaving = threading.Event()
        self.start()

    def leave(self) -> None:
        """Close the connection with the next token."""
        self._leaving.set()
        self.join(ANSWER_TIMEOUT_S)

    def run(self) -> None:
        with post_stream(self._url, "/v1/chat/completions", self._body) as (events, _):
            for event in events:
                [choice] = event["choices"]
                self.tokens += choice.get("token_ids") or []
                self.reason = choice.get("finish_reason")
                if self._leaving.is_set():
                    return


def until(condition: Callable[[], bool], timeout_s: float = SETTLED_S) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def running(serving: Serving, role: str) -> int:
    return sum(worker["running"] for worker in serving.status()["workers"] if worker["role"] == role)


def count(serving: Serving, counter: str) -> int:
    value: int = serving.status()["counters"][counter]
    return value


def story(number: int, length: int) -> dict[str, Any]:
    return chat([], f"Tell me story number {number}.", max_tokens=length)


def pauses(serving: Serving) -> list[str]:
    """What the thief's engine was told, as it says itself."""
    said = [line for line in serving.engine_log("text").splitlines() if "[encoder-0-text]" in line]
    return [line.split("setting pause state to ")[1].split()[0] for line in said if "setting pause state to" in line]


def test_the_thief_is_shown_while_it_starts_and_in_the_status(serving: Serving) -> None:
    assert any("encoder-0-text: ready" in line for line in serving.lines)
    [thief] = [worker for worker in serving.status()["workers"] if worker["role"] == "text"]
    assert thief["worker"] == "encoder-0-text"
    assert thief["kv_tokens"] > LONG
    weights = serving.report("text")["weights"]
    assert weights["language_model"] > 0
    assert "visual" not in weights


def test_a_burst_of_text_is_shared_with_the_thief(serving: Serving) -> None:
    stolen = count(serving, "stolen")
    answered = serving.metric("text", "vllm:request_success_total")
    bodies = [story(number, 100) for number in range(8)]
    with ThreadPoolExecutor(len(bodies)) as pool:
        together = [tokens(answer) for answer in pool.map(serving.ask, bodies)]
    stolen = count(serving, "stolen") - stolen
    assert 0 < stolen < len(bodies)
    assert serving.metric("text", "vllm:request_success_total") - answered == stolen
    assert together == [tokens(serving.ask(body)) for body in bodies]  # one by one: the decoder has a credit for each


def test_an_image_pauses_a_stolen_stream_which_goes_on_from_its_cache(serving: Serving) -> None:
    began = time.time()
    unstolen = tokens(serving.ask(story(100, LONG)))
    before = {name: count(serving, name) for name in ("stolen", "paused", "returned")}
    told = len(pauses(serving))
    preemptions = serving.metric("text", "vllm:num_preemptions_total")
    busy = Stream(serving, story(101, LONGER))
    until(lambda: running(serving, "decoder") == 1)
    stream = Stream(serving, story(100, LONG))
    until(lambda: running(serving, "text") == 1 and len(stream.tokens) > 10)
    assert tokens(serving.ask(chat([picture(1, 196, 196)])))  # encoded at once; then it waits for the decoder
    for each in (stream, busy):
        each.join(ANSWER_TIMEOUT_S)
    assert (stream.reason, busy.reason, len(busy.tokens)) == ("length", "length", LONGER)
    assert stream.tokens == unstolen
    after = {name: count(serving, name) - value for name, value in before.items()}
    assert after == {"stolen": 1, "paused": 1, "returned": 0}
    until(lambda: pauses(serving)[told:] == ["PAUSED_ALL", "UNPAUSED"])
    [pause] = serving.records("text", f"since={began}").pauses
    assert began < pause.wanted < pause.began < pause.ended < time.time()
    # A running request is prefilled a second time only after vLLM has pre-empted it, as it does when a pause clears the
    # cache, and it counts that.
    assert serving.metric("text", "vllm:num_preemptions_total") == preemptions


def test_what_is_stolen_goes_back_to_a_free_decoder_and_goes_on_there(serving: Serving) -> None:
    unstolen = tokens(serving.ask(story(200, LONG)))
    returned = count(serving, "returned")
    busy = Stream(serving, story(201, LONGER))
    until(lambda: running(serving, "decoder") == 1)
    stream = Stream(serving, story(200, LONG))
    until(lambda: running(serving, "text") == 1 and len(stream.tokens) > 10)
    busy.leave()
    until(lambda: running(serving, "decoder") == 0)
    with ThreadPoolExecutor(MANY) as pool:
        images = [pool.submit(serving.ask, chat([picture(1000 + number, 448, 448)])) for number in range(MANY)]
        stream.join(ANSWER_TIMEOUT_S)
        assert all(tokens(image.result()) for image in images)
    assert (stream.reason, stream.tokens) == ("length", unstolen)
    assert count(serving, "returned") == returned + 1


OF_PROMETHEUS = {"up"}  # it says itself whether a page could be had


def test_alerts_and_dashboard_ask_for_nothing_that_is_not_scraped(serving: Serving) -> None:
    """Of every kind of engine, once it has done what it is for: some series begin with the first event."""
    [text] = [worker for worker in serving.status()["workers"] if worker["role"] == "text"]
    token = serving.front_end("text").environ()["VLLM_API_KEY"]
    for verb in (f"pause?since={time.time()}", "resume"):
        post_json(text["url"], f"/v1/chiasm/{verb}", {}, token)
    stream = Stream(serving, chat([picture(4)]))
    stream.join(ANSWER_TIMEOUT_S)
    assert stream.reason == "length"
    paths = [group["labels"]["__metrics_path__"] for group in get_json(serving.url, "/metrics/targets")]
    assert len(paths) == 5
    scraped = {name for path in paths for name in sampled(serving.url + path)}
    assert monitored() - OF_PROMETHEUS - scraped == set()


def sampled(url: str) -> set[str]:
    """The names of all samples on a page."""
    with urllib.request.urlopen(url, timeout=SETTLED_S) as answer:
        page = answer.read().decode()
    return {sample.name for family in text_string_to_metric_families(page) for sample in family.samples}


def test_a_killed_thief_comes_back_and_leaves_the_encoder_alone(serving: Serving) -> None:
    encoder, thief = serving.front_end("encoder"), serving.front_end("text")
    thief.kill()
    until(lambda: not known(serving, "text"))
    assert tokens(serving.ask(chat([picture(2)])))
    until(lambda: known(serving, "text"), START_TIMEOUT_S)
    assert serving.front_end("text") != thief
    assert serving.front_end("encoder") == encoder


def test_a_worker_that_ray_restarts_has_both_its_engines_again(serving: Serving) -> None:
    serving.worker("encoder").kill()
    until(lambda: not known(serving, "encoder") and not known(serving, "text"))
    until(lambda: known(serving, "encoder") and known(serving, "text"), START_TIMEOUT_S)
    assert tokens(serving.ask(chat([picture(3)])))


def known(serving: Serving, role: str) -> bool:
    return any(worker["role"] == role for worker in serving.status()["workers"])
