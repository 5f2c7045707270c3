"""Families whose images travel as a number of tokens (`chiasm.counted_images`), engine by engine."""

import json
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
from engines import CASES, Trio, chat, encode, parse, picture, post, post_split, report, running_trio, tokens

from chiasm.families import IMAGE_NUM_TOKENS
from chiasm.gateway.bodies import decode_body
from chiasm.models.tiny import Family, build_tiny_model
from chiasm.nouns import Embedding, RequestId

pytestmark = [pytest.mark.engine, pytest.mark.timeout(600)]

FAMILIES = [Family.LLAVA_1_5, Family.INTERNVL]
WIDE = picture(7, 336, 112)  # three tiles and a thumbnail to InternVL, cut to the middle by LLaVA-1.5
OPTIONS = {Family.LLAVA_1_5: {"do_center_crop": True}, Family.INTERNVL: {"max_patches": 2}}


@pytest.fixture(scope="module", params=FAMILIES)
def family(request: pytest.FixtureRequest) -> Family:
    chosen: Family = request.param
    return chosen


@pytest.fixture(scope="module")
def trio(family: Family, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Trio]:
    model = build_tiny_model(tmp_path_factory.mktemp(family), family)
    with running_trio(model) as engines:
        yield engines


def assert_parity(trio: Trio, body: dict[str, Any]) -> None:
    split, whole = post_split(trio, body, "parity"), post(trio.whole, body)
    assert tokens(split) == tokens(whole)
    assert split["usage"] == whole["usage"]


@pytest.mark.parametrize("case", [case for case in CASES if case != "processor options"])
def test_the_split_answers_as_the_whole(trio: Trio, case: str) -> None:
    assert_parity(trio, CASES[case])


def test_the_split_answers_as_the_whole_with_processor_options(trio: Trio, family: Family) -> None:
    assert_parity(trio, chat([WIDE], mm_processor_kwargs=OPTIONS[family]))


def test_the_answer_depends_on_the_picture(trio: Trio) -> None:
    """Else the equalities above would say nothing."""
    answers = {tuple(tokens(post_split(trio, chat([picture(seed)]), "differs"))) for seed in range(10, 14)}
    assert len(answers) > 1


def test_each_engine_holds_its_half_only(trio: Trio) -> None:
    encoder, decoder, whole = (report(engine)["weights"] for engine in (trio.encoder, trio.decoder, trio.whole))
    assert whole.keys() == {"vision_tower", "multi_modal_projector", "language_model"}
    language = whole.pop("language_model")
    assert encoder == whole
    assert decoder == {"language_model": language}


def embedded(trio: Trio, body: dict[str, Any]) -> Embedding:
    [part] = parse(body).media
    return encode(trio.encoder, part, {})


def test_the_encoder_says_how_many_tokens_a_picture_has(trio: Trio, family: Family) -> None:
    small, wide = (embedded(trio, chat([url])) for url in (picture(8, 56, 56), WIDE))
    counts = {Family.LLAVA_1_5: (16, 16), Family.INTERNVL: (4, 16)}
    for embedding, count in zip((small, wide), counts[family], strict=True):
        assert embedding.metadata == {IMAGE_NUM_TOKENS: [count]}
        assert embedding.shape[0] == count


def refused(trio: Trio, embedding: Embedding, body: dict[str, Any], request: str) -> str:
    """What the decoder says of an embedding that lies."""
    with pytest.raises(AssertionError) as error:
        post(trio.decoder, json.loads(decode_body(parse(body), RequestId(request), [embedding])))
    return str(error.value)


@pytest.mark.parametrize(
    "lie", [{IMAGE_NUM_TOKENS: lie} for lie in ([0], [-4], [10**9], [10**30], [4.0], [4, 4], [])] + [{}], ids=str
)
def test_metadata_that_cannot_be_is_refused(trio: Trio, lie: dict[str, Any]) -> None:
    body = chat([picture(9)])
    forged = msgspec.structs.replace(embedded(trio, body), metadata=lie)
    assert "400" in refused(trio, forged, body, "lie")
    assert_parity(trio, body)


@pytest.mark.parametrize(
    ("announced", "landed", "code"),
    [(0, False, "wrong_size"), (1, False, "protocol"), (1, True, "wrong_size")],
    ids=["announced in its own size", "announced to fill it", "announced to fill it, and here"],
)
def test_an_embedding_that_does_not_fill_its_room_is_named(trio: Trio, announced: int, landed: bool, code: str) -> None:
    """The prompt has room for one token more than the embedding has."""
    body = chat([picture(15 + announced + 2 * landed)])
    if landed:
        assert_parity(trio, body)
    honest = embedded(trio, body)
    count, width = honest.shape
    room = {IMAGE_NUM_TOKENS: [count + 1]}
    forged = msgspec.structs.replace(honest, metadata=room, shape=(count + announced, width))
    request = f"room-{announced}-{landed}"
    assert "500" in refused(trio, forged, body, request)
    [failure] = json.loads(trio.decoder.get(f"/v1/chiasm/transfers/{request}"))["failed"]
    assert failure["code"] == code
    assert_parity(trio, body)
