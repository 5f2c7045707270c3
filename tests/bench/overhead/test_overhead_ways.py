"""Which engine is behind a gateway, and its token; a process with no more than its command line plays the engine."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from played_engine import PlayedEngine, playing

from bench.load.asking import Endpoint, Unreachable
from bench.overhead.ways import NoSuchEngine, Ways, ways_through

pytestmark = pytest.mark.slow


@contextmanager
def engine_process(port: int, **environment: str) -> Iterator[None]:
    waiting = [sys.executable, "-c", "import sys; print(flush=True); sys.stdin.read()"]
    command = [*waiting, "-m", "vllm.entrypoints.openai.api_server", "--port", str(port)]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, env=os.environ | environment) as process:
        assert process.stdout is not None
        process.stdout.readline()
        yield
        process.communicate()


def worker(name: str, role: str, port: int = 1) -> dict[str, Any]:
    return {"worker": name, "role": role, "url": f"http://127.0.0.1:{port}", "slots": 8}


@pytest.mark.parametrize(("role", "images"), [("decoder", False), ("whole", True)])
def test_both_ways_lead_to_the_one_engine_that_generates(role: str, images: bool) -> None:
    workers = [worker("encoder-0", "encoder", 40001), worker("the one", role, 40002)]
    with (
        engine_process(40001, VLLM_API_KEY="another's"),
        engine_process(40002, VLLM_API_KEY="secret"),
        playing(PlayedEngine(key="key", workers=workers)) as gateway,
    ):
        found = ways_through(gateway.url, "key")
    direct = Endpoint("http://127.0.0.1:40002", "played", "secret")
    assert found == Ways(Endpoint(gateway.url, "played", "key"), direct, slots=8, images=images)


@pytest.mark.parametrize(
    ("workers", "named"),
    [
        ([worker("encoder-0", "encoder")], "none"),
        ([worker("decoder-0", "decoder"), worker("text-0", "text")], "decoder-0, text-0"),
    ],
)
def test_without_a_single_engine_there_is_nothing_to_compare(workers: list[dict[str, Any]], named: str) -> None:
    with playing(PlayedEngine(workers=workers)) as gateway, pytest.raises(NoSuchEngine, match=rf"\({named}\).*Cure"):
        ways_through(gateway.url, None)


def test_an_engine_elsewhere_has_no_token_to_read() -> None:
    workers = [worker("decoder-0", "decoder", 40003)]
    with (
        engine_process(40004, VLLM_API_KEY="another's"),
        engine_process(40003),
        playing(PlayedEngine(workers=workers)) as gateway,
        pytest.raises(NoSuchEngine, match=r"decoder-0.*Cure: run this where the engine runs"),
    ):
        ways_through(gateway.url, None)


def test_where_nobody_answers_that_is_said() -> None:
    with playing(PlayedEngine()) as gateway:
        url = gateway.url
    with pytest.raises(Unreachable, match="no answer"):
        ways_through(url, None)
