"""Model families through the split, engine by engine: equal to the unsplit engine, token for token.

Here the test is the gateway, with the gateway's own functions; the whole cluster is in `test_cluster.py`.
"""

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import msgspec
import pytest
from engines import CASES, Trio, chat, encode, metric, parse, picture, post, post_split, report, running_trio, tokens

from chiasm.gateway.bodies import decode_body
from chiasm.models.tiny import Family, build_tiny_model
from chiasm.nouns import RequestId

pytestmark = [pytest.mark.engine, pytest.mark.timeout(600)]

FAMILIES = [Family.QWEN3_VL, Family.QWEN2_VL]  # Qwen2.5-VL is the built-in model, and so the cluster's
KV_BLOCKS = 5  # of 128 tokens, one of them vLLM keeps: room for one long answer, so several pre-empt each other
LONG_ANSWER = 200


@pytest.fixture(scope="module", params=FAMILIES)
def trio(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Trio]:
    model = build_tiny_model(tmp_path_factory.mktemp(request.param), request.param)
    small = ("--max-model-len=512", f"--num-gpu-blocks-override={KV_BLOCKS}")
    with running_trio(model, decoder_args=small) as engines:
        yield engines


@pytest.mark.parametrize("case", CASES)
def test_the_split_answers_as_the_whole(trio: Trio, case: str) -> None:
    split = post_split(trio, CASES[case], "parity")
    whole = post(trio.whole, CASES[case])
    assert tokens(split) == tokens(whole)
    assert split["usage"]["prompt_tokens"] == whole["usage"]["prompt_tokens"]


def test_the_answer_depends_on_the_picture(trio: Trio) -> None:
    """Else the equalities above would say nothing."""
    answers = {tuple(tokens(post_split(trio, chat([picture(seed)]), "differs"))) for seed in range(10, 14)}
    assert len(answers) > 1


def test_processor_options_change_the_key(trio: Trio) -> None:
    parsed = parse(chat([picture(6, 200, 200)], mm_processor_kwargs={"max_pixels": 128 * 128}))
    embedding = encode(trio.encoder, parsed.media[0], parsed.options)
    assert embedding.key != embedding.uuid


def test_each_engine_holds_its_half_only(trio: Trio) -> None:
    encoder, decoder, whole = (report(engine)["weights"] for engine in (trio.encoder, trio.decoder, trio.whole))
    assert encoder["visual"] == whole["visual"]
    assert encoder.get("language_model", 0) == 0
    assert decoder["language_model"] == whole["language_model"]
    assert "visual" not in decoder


def test_a_preempted_request_gets_its_picture_again(trio: Trio) -> None:
    """Long answers outgrow the decoder's few KV blocks; whoever must begin anew needs its embedding a second time.

    Here vLLM's own cache still has it; that the landing area keeps it too is in `tests/decoder/test_landing.py`.
    """
    before = metric(trio.decoder, "vllm:num_preemptions_total")
    bodies = [chat([picture(20 + index)], max_tokens=LONG_ANSWER) for index in range(4)]
    with ThreadPoolExecutor(len(bodies)) as pool:
        split = list(pool.map(lambda index: post_split(trio, bodies[index], f"long-{index}"), range(len(bodies))))
    assert metric(trio.decoder, "vllm:num_preemptions_total") > before
    for body, answer in zip(bodies, split, strict=True):
        assert tokens(answer) == tokens(post(trio.whole, body))


def test_a_lost_embedding_is_named_and_costs_nothing_else(trio: Trio) -> None:
    """The encoder says that it holds one picture, and the decoder is sent for another."""
    held, lost = (parse(chat([picture(seed)])) for seed in (61, 62))
    embedding = encode(trio.encoder, held.media[0], {})
    [part] = lost.media
    forged = msgspec.structs.replace(embedding, uuid=part.uuid, key=part.uuid)
    with pytest.raises(AssertionError, match="500"):
        post(trio.decoder, json.loads(decode_body(lost, RequestId("lost-1"), [forged])))
    [failure] = json.loads(trio.decoder.get("/v1/chiasm/transfers/lost-1"))["failed"]
    assert (failure["key"], failure["code"]) == (part.uuid, "missing")
    again = chat([picture(62)])
    assert tokens(post_split(trio, again, "lost-1")) == tokens(post(trio.whole, again))
    assert json.loads(trio.decoder.get("/v1/chiasm/transfers/lost-1"))["failed"] == []
