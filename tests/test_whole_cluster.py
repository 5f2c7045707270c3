"""Split or stay on real engines: one encoder, one decoder, and one whole worker beside them."""

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from click.testing import CliRunner
from engines import chat, picture, tokens
from serving import Serving, running_cluster

from chiasm.cli import main
from chiasm.client import post_json

pytestmark = [pytest.mark.engine, pytest.mark.timeout(600)]

# An encoder that has one image at a time, and streams that may stall for as long as it takes.
CONFIG = """
served_model_name: model
gateway: {port: 0}
scheduler: {look_ahead: 0, itl_slo_ms: 600000}
wholes: {count: 1}
"""
SETTLED_S = 60.0
Burst = dict[int, tuple[list[int], str]]
"""By the number of an album: what was answered about it, and why it went where it went."""


@pytest.fixture(scope="module")
def serving(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    with running_cluster(tmp_path_factory.mktemp("whole"), CONFIG) as serving:
        yield serving


def ask(serving: Serving, body: dict[str, Any]) -> tuple[list[int], str]:
    """The tokens of the answer, and the request's id."""
    answer, headers = post_json(serving.url, "/v1/chat/completions", body)
    return tokens(answer), headers["x-request-id"]


def explain(serving: Serving, request: str) -> str:
    """What `chiasm explain` says of a request, as one line."""
    said = CliRunner().invoke(main, ["explain", request, "--endpoint", serving.url]).output
    return " ".join(said.split())


def counters(serving: Serving) -> dict[str, int]:
    found: dict[str, int] = serving.status()["counters"]
    return found


def album(number: int) -> dict[str, Any]:
    """A question about pictures that are in no other."""
    return chat([picture(100 * number + each, 196, 196) for each in range(8)])


@pytest.fixture(scope="module")
def burst(serving: Serving) -> Burst:
    """Six albums at once."""
    numbers = range(6)
    with ThreadPoolExecutor(len(numbers)) as pool:
        answers = list(pool.map(lambda number: ask(serving, album(number)), numbers))
    return {number: (answer, explain(serving, request)) for number, (answer, request) in enumerate(answers)}


def test_a_whole_worker_is_shown_while_it_starts_and_has_both_halves(serving: Serving) -> None:
    assert any("the node of each of 1 holds both halves of the model (0.0" in line for line in serving.lines)
    assert any("whole-0: ready" in line for line in serving.lines)
    [whole] = [worker for worker in serving.status()["workers"] if worker["role"] == "whole"]
    assert whole["worker"] == "whole-0"
    weights = serving.report("whole")["weights"]
    assert weights["language_model"] > 0
    assert weights["visual"] > 0


def test_an_image_is_split_while_nothing_waits(serving: Serving) -> None:
    _, request = ask(serving, chat([picture(1)]))
    explained = explain(serving, request)
    assert "goes split" in explained
    assert "a whole worker would take" in explained
    assert (counters(serving)["encodes"], counters(serving)["images_whole"]) == (1, 0)


def test_while_the_encoder_is_busy_images_go_whole(serving: Serving, burst: Burst) -> None:
    whole = [explained for _, explained in burst.values() if "goes whole" in explained]
    assert 0 < len(whole) < len(burst)
    assert all("a whole worker would have it done in" in explained for explained in whole)
    assert counters(serving)["images_whole"] == len(whole)
    assert serving.metric("whole", "vllm:request_success_total") == len(whole)


def test_without_an_encoder_images_go_whole_and_are_answered_as_they_were_split(serving: Serving, burst: Burst) -> None:
    serving.front_end("encoder").kill()
    until(lambda: all(worker["role"] != "encoder" for worker in serving.status()["workers"]))
    split = {number: answer for number, (answer, explained) in burst.items() if "goes whole" not in explained}
    assert split
    for number, answer in split.items():
        again, request = ask(serving, album(number))
        assert "an encoder or a decoder is missing" in explain(serving, request)
        assert again == answer


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + SETTLED_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)
