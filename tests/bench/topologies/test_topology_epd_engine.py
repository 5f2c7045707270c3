"""vLLM's own encoder disaggregation on real engines, driven by our proxy, against a monolithic one."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from engines import chat, picture, tokens

from bench.topologies.arrangement import Arrangement
from bench.topologies.arrangements import starting_all
from bench.topologies.running import Running
from bench.topologies.setting import COMMON_ARGS, Setting
from chiasm.client import post_json
from chiasm.models.builtin import model_folder

pytestmark = [pytest.mark.engine, pytest.mark.timeout(400)]

CASES = {
    "no picture": chat([], "Tell me something."),
    "one picture": chat([picture(1)]),
    "several of several sizes": chat([picture(2), picture(3, 224, 140), picture(4, 60, 200)]),
}


@pytest.fixture(scope="module")
def running() -> Iterator[dict[Arrangement, Running]]:
    setting = Setting(model_folder(), engine_args=(*COMMON_ARGS, "--max-num-seqs=4"))
    with starting_all([Arrangement.MONO, Arrangement.VLLM_EPD], setting) as running:
        for one in running.values():
            one.wait_ready()
        yield running


def answered(running: Running, body: dict[str, Any]) -> list[int]:
    endpoint = running.endpoint
    return tokens(post_json(endpoint.url, "/v1/chat/completions", body, endpoint.key)[0])


def embeddings() -> set[Path]:
    """The files in the folder that both engines of the disaggregation were told of."""
    for process in psutil.Process().children(recursive=True):
        command = process.cmdline()
        if "--ec-transfer-config" in command:
            told = json.loads(command[command.index("--ec-transfer-config") + 1])
            folder = Path(told["ec_connector_extra_config"]["shared_storage_path"])
            return {path for path in folder.rglob("*") if path.is_file()}
    raise AssertionError("no engine of the disaggregation runs")


@pytest.mark.parametrize("name", CASES)
def test_it_answers_as_the_monolithic_engine_does(running: dict[Arrangement, Running], name: str) -> None:
    before = embeddings()
    both = [answered(running[each], CASES[name]) for each in (Arrangement.MONO, Arrangement.VLLM_EPD)]
    assert both[0] == both[1]
    pictures = len(CASES[name]["messages"][0]["content"]) - 1
    assert len(embeddings() - before) >= pictures
    assert bool(embeddings() - before) == bool(pictures)
    assert running[Arrangement.VLLM_EPD].retries() == 0
