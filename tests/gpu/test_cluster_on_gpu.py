"""A whole cluster with vLLM's engines on a GPU, which the encoder, the decoder and the unsplit engine share."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec

import pytest
import torch
from engines import CASES, chat, picture, tokens
from serving import Serving, running_serving

from chiasm.ask import chat_body
from chiasm.demo import CASES as DEMO
from chiasm.demo import Case as DemoCase
from chiasm.models.builtin import picture_file
from chiasm.profile.machines import ask_machines

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.timeout(400),
    pytest.mark.skipif(not torch.cuda.is_available(), reason="torch finds no GPU here"),
    pytest.mark.skipif(find_spec("vllm") is None, reason="vLLM is not installed"),
]

PART = "--gpu-memory-utilization=0.2"
POOLS = f"""
encoders: {{gpus: 0.5, engine_args: [{PART}]}}
decoders: {{gpus: 0.5, engine_args: [{PART}]}}
"""


@pytest.fixture(scope="module")
def serving(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    with running_serving(tmp_path_factory.mktemp("serving"), POOLS, [PART]) as serving:
        yield serving


def test_all_engines_are_on_the_card(serving: Serving) -> None:
    machines = ask_machines(serving.url, None).machines
    told = {name: (machine.conditions.device, machine.conditions.processor) for name, machine in machines.items()}
    assert told == dict.fromkeys(("encoder-0", "decoder-0"), ("cuda", torch.cuda.get_device_name()))


@pytest.mark.parametrize("case", CASES)
def test_it_answers_as_the_whole(serving: Serving, case: str) -> None:
    split = serving.ask(CASES[case])
    whole = serving.ask_whole(CASES[case])
    assert tokens(split) == tokens(whole)
    assert split["usage"] == whole["usage"]


@pytest.mark.parametrize("case", DEMO, ids=lambda case: case.question)
def test_the_answers_are_true(serving: Serving, case: DemoCase) -> None:
    pictures = [picture_file(name) for name in case.pictures]
    answer = serving.ask(chat_body(None, pictures, case.question, max_tokens=32))
    assert answer["choices"][0]["message"]["content"] == case.truth


def test_each_engine_holds_its_half_only(serving: Serving) -> None:
    encoder, decoder = serving.report("encoder")["weights"], serving.report("decoder")["weights"]
    assert encoder["visual"] > 0
    assert encoder.get("language_model", 0) == 0
    assert decoder["language_model"] > 0
    assert "visual" not in decoder


def test_one_encode_and_one_transfer_for_each_distinct_picture(serving: Serving) -> None:
    before = serving.report("encoder")["connector"]
    body = chat([picture(31, 224, 224), picture(32, 224, 224)])
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(serving.ask, [body] * 8))
    assert len({tuple(tokens(answer)) for answer in answers}) == 1
    after = serving.report("encoder")["connector"]
    assert [after[name] - before[name] for name in ("encodes", "transfers")] == [2, 2]


def test_many_at_once_are_all_answered(serving: Serving) -> None:
    bodies = [chat([picture(seed, 224, 140)], f"What is {seed}?") for seed in range(100, 164)]
    with ThreadPoolExecutor(32) as pool:
        answers = list(pool.map(serving.ask, bodies))
    assert [answer["usage"]["completion_tokens"] for answer in answers] == [body["max_tokens"] for body in bodies]
    assert serving.status()["counters"]["done"] >= len(bodies)
