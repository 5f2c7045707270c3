"""One cluster on three hosts with addresses of their own: what it answers, what becomes of its requests while a host is
cut off, and what distance costs it.
"""

import itertools
import os
import re
import socket
import statistics
import threading
import time
import urllib.request
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from delay_line import DELAY_S, RATE
from engines import picture
from metal import CONFIG, Metal, running_metal
from namespaces import inside
from network import Line, Network
from serving import Serving

from chiasm.ask import chat_body, stream_answer
from chiasm.client import EndpointError, get_json, request_path
from chiasm.config import WireConfig
from chiasm.demo import CASES
from chiasm.demo import Case as DemoCase
from chiasm.models.builtin import picture_file
from chiasm.wire.transfer_time import Link, fetch_seconds

pytestmark = [pytest.mark.engine, pytest.mark.timeout(600)]

SIDE = 784  # pixels
ITEM_BYTES = (SIDE // 28) ** 2 * 192 * 4  # tokens of so many float32
ROOM = 4  # items at the decoder: enough that the one that has to go is not still being loaded
LINK = Link(round_trip_s=2 * DELAY_S, bytes_per_s=RATE)
WARMING, PAIRS = 2 * (ROOM + 1), 150
TOLERANCE = 0.5
"""For what is between the two engines' steps, on a machine that has other things to do: of the link alone,
`test_transfer_over_a_link.py` tells more."""

CUT_S = 30.0
ANSWER = "answer"
PATIENCE_S = 60.0


@pytest.fixture(scope="module")
def metal(network: Network, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Metal]:
    cores = sorted(os.sched_getaffinity(0))
    config = CONFIG.format(
        head=network.addresses["head"], item=ITEM_BYTES, landing=ROOM * ITEM_BYTES, first=cores[0], last=cores[-1]
    )
    with running_metal(network, config, tmp_path_factory.mktemp("metal")) as metal:
        yield metal


# -- placed by labels, and met at addresses


def test_each_half_is_on_its_host(metal: Metal) -> None:
    workers = {worker["role"]: worker for worker in metal.serving.status()["workers"]}
    assert {role: worker["node"] for role, worker in workers.items()} == {
        role: metal.network.addresses[role] for role in ("encoder", "decoder")
    }
    for role, worker in workers.items():
        assert worker["url"].startswith(f"http://{metal.network.addresses[role]}:")
        assert len(metal.hosts[role].engines()) == 1
    assert metal.hosts["head"].engines() == []


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.question)
def test_answers_are_true(metal: Metal, case: DemoCase) -> None:
    pictures = [picture_file(name) for name in case.pictures]
    answer = metal.serving.ask(chat_body(None, pictures, case.question, max_tokens=32))
    assert answer["choices"][0]["message"]["content"] == case.truth


def test_embeddings_came_by_tcp_from_address_to_address(metal: Metal) -> None:
    fetched = _sum(metal.serving, "/metrics/workers/decoder-0", "chiasm_transfer_bytes_total")
    assert fetched > 0
    said = metal.hosts["decoder"].run("ss", "-Htni", "state", "established", "dport", "=", ":7600")
    ours, theirs = (re.escape(metal.network.addresses[role]) for role in ("decoder", "encoder"))
    assert re.search(rf"\b{ours}:\d+\s+{theirs}:7600\b", said), said
    assert sum(map(int, re.findall(r"bytes_received:(\d+)", said))) > fetched
    memories = {metal.hosts[role].path("/dev/shm").stat().st_dev for role in ("encoder", "decoder")}
    assert len(memories) == 2  # nothing else could have carried them


def test_what_an_encoder_hands_out_is_encrypted(metal: Metal) -> None:
    """To whoever begins a greeting of ZMTP 3 (https://rfc.zeromq.org/spec/23), it names the mechanism that it takes."""
    with inside(metal.network.namespace("decoder")):
        connection = socket.create_connection((metal.network.addresses["encoder"], 7600), PATIENCE_S)
    with connection, connection.makefile("rb") as said:
        connection.sendall(b"\xff" + bytes(8) + b"\x7f\x03\x01")
        assert said.read(64)[12:32].rstrip(b"\0") == b"CURVE"


# -- a host that is cut off


def test_no_request_is_lost_while_the_decoder_s_host_is_cut_off(metal: Metal) -> None:
    engines = metal.hosts["decoder"].engines()
    ended_before = _sum(metal.serving, "/metrics", "chiasm_requests_total")
    seen, case = picture_file(CASES[0].pictures[0]), CASES[0]
    long = chat_body(None, [seen], "Tell me everything.", max_tokens=3500, temperature=0, ignore_eos=True)
    with ThreadPoolExecutor() as pool:
        begun = threading.Event()
        under_way = pool.submit(_streamed, metal, long, begun)
        assert begun.wait(PATIENCE_S)
        rejoined = time.monotonic() + CUT_S
        metal.network.cut("decoder")
        try:
            asked = [pool.submit(_asked, metal, body) for body in _questions(91)]
            # Part of it is delivered, so no other decoder could go on with it; and it must not hang for ten minutes.
            assert "ended the answer" in under_way.result(CUT_S)
            asked += [pool.submit(_asked, metal, body) for body in _questions(92)]
            time.sleep(max(0.0, rejoined - time.monotonic()))
            assert metal.serving.status()["ready"] is False
        finally:
            metal.network.join("decoder")
        outcomes = [future.result(PATIENCE_S) for future in asked]
    assert outcomes == [ANSWER] * len(asked)  # they waited for it
    assert _sum(metal.serving, "/metrics", "chiasm_requests_total") - ended_before == 1 + len(asked)
    answer = metal.serving.ask(chat_body(None, [seen], case.question, max_tokens=32))
    assert answer["choices"][0]["message"]["content"] == case.truth
    assert metal.hosts["decoder"].engines() == engines  # it went on all the while


def _questions(seed: int) -> list[dict[str, Any]]:
    """One about a picture that nobody has seen, and one about none."""
    return [
        chat_body(None, [picture(seed)], "What is it?", max_tokens=8),
        chat_body(None, [], f"What is the capital of Norway? {seed}", max_tokens=8),
    ]


def _asked(metal: Metal, body: dict[str, Any]) -> str:
    """How a request ended: with an answer, or with which error."""
    try:
        answer = metal.serving.ask(body)
    except EndpointError as error:
        return str(error)
    assert answer["choices"][0]["finish_reason"] in ("stop", "length")
    return ANSWER


def _streamed(metal: Metal, body: dict[str, Any], begun: threading.Event) -> str:
    """The same of a stream."""
    try:
        with stream_answer(metal.serving.url, body, None) as answer:
            for _ in answer:
                begun.set()
    except EndpointError as error:
        return str(error)
    assert answer.finish_reason in ("stop", "length")
    return ANSWER


# -- what distance costs


def test_distance_adds_what_the_link_makes_a_fetch_take(metal: Metal, line: Line) -> None:
    """To the transfer, and to the time to first token; only encoder and decoder are far from each other.

    There are more pictures than the decoder has room for, so each in its turn is fetched anew; the encoder has encoded
    them once. What is asked comes before the picture and is never the same, so that nothing is found in a prefix cache.
    """
    pictures = itertools.cycle([picture(seed, SIDE, SIDE) for seed in range(81, 82 + ROOM)])
    numbers = itertools.count()

    def timed() -> tuple[float, float]:
        return _timed(metal, next(pictures), f"{next(numbers)}: What is it?")

    with line.taken():  # the connection gets used to it
        for _ in range(WARMING):
            timed()
    pairs = []
    for _ in range(PAIRS):
        near = timed()
        with line.taken():
            far = timed()
        pairs.append((far[0] - near[0], far[1] - near[1]))
    transfer, first_token = (_middle_mean(differences) for differences in zip(*pairs, strict=True))
    expected = fetch_seconds(ITEM_BYTES, LINK, WireConfig())
    assert transfer == pytest.approx(expected, rel=TOLERANCE)
    assert first_token == pytest.approx(expected, rel=TOLERANCE)


def _middle_mean(values: Sequence[float]) -> float:
    """Of those that are neither among the least tenth nor among the greatest."""
    cut = len(values) // 10
    return statistics.mean(sorted(values)[cut:-cut])


def _timed(metal: Metal, url: str, question: str) -> tuple[float, float]:
    """Seconds that its embedding was under way, and seconds to the first token."""
    parts = [{"type": "text", "text": question}, {"type": "image_url", "image_url": {"url": url}}]
    body = {
        "messages": [{"role": "user", "content": parts}],
        "max_tokens": 2,
        "mm_processor_kwargs": {"max_pixels": SIDE * SIDE},
    }
    with stream_answer(metal.serving.url, body, None) as answer:
        for _ in answer:
            pass
    assert answer.first_ms is not None
    timeline = get_json(metal.serving.url, request_path(answer.request))
    [transfer] = [span for span in timeline["spans"] if span["phase"] == "transfer"]
    assert transfer["nbytes"] == ITEM_BYTES
    return transfer["ended"] - transfer["began"], answer.first_ms / 1000


def _sum(serving: Serving, path: str, name: str) -> float:
    """One number of a page of metrics, over all its labels."""
    with urllib.request.urlopen(serving.url + path, timeout=PATIENCE_S) as answer:
        page = answer.read().decode()
    return sum(map(float, re.findall(rf"^{name}(?:{{.*}})? (\S+)$", page, re.MULTILINE)))
