"""What a warm-up finds out about an endpoint, and whom nobody can measure."""

from functools import partial

import pytest
from prompt_stalled_engine import PlayedEngine, playing

from bench.itl.plan import QUICK, Load
from bench.itl.sides import Side, warmed_up
from bench.itl.slots import Unmeasurable
from bench.itl.subjects import OneEndpoint
from bench.load.asking import Endpoint
from bench.topologies.program import NotServing

pytestmark = pytest.mark.slow

SMALL = Load(1, 224)


def warm_up(url: str) -> Side:
    return warmed_up("played", partial(Endpoint, url, "played"), QUICK, lambda _said: None)


def test_it_counts_what_a_load_adds_and_makes_text_of_as_much() -> None:
    engine = PlayedEngine()
    with playing(engine) as url:
        side = warm_up(url)
    assert side.texts.added == {SMALL: 66}
    assert side.texts.tokens_per_letter == 1.0
    assert side.texts.letters(SMALL) == 66
    assert side.encoded


def test_encoded_pictures_are_measured_only_where_somebody_tells_of_encodes() -> None:
    with playing(PlayedEngine(gateway=False)) as url:
        assert not warm_up(url).encoded


@pytest.mark.parametrize(
    ("engine", "message"),
    [
        (PlayedEngine(at_once=True), "16 tokens that were asked for came in 1 pieces"),
        (PlayedEngine(counts=False), r"usage\.prompt_tokens"),
        (PlayedEngine(refuse="no images here"), "A request of the warm-up failed: .*no images here"),
    ],
)
def test_who_cannot_be_measured_is_told_why(engine: PlayedEngine, message: str) -> None:
    with playing(engine) as url, pytest.raises(Unmeasurable, match=message):
        warm_up(url)


def test_an_endpoint_is_measured_as_it_runs() -> None:
    with playing(PlayedEngine()) as url:
        subject = OneEndpoint(url, None)
        with subject.up() as running:
            assert running[url].endpoint.model == "played"
        assert subject.sides == [url]
        assert subject.kv_token_bytes() is None  # it is no gateway of Chiasm's
    with pytest.raises(NotServing, match="no answer"), subject.up():
        pass
