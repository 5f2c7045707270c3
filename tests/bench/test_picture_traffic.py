"""What is sent to an endpoint, when, and what is told of it."""

import base64
import io
import json
import math

import pytest
from picture_endpoint import PictureEndpoint, running
from PIL import Image

from bench.picture_traffic import TrafficFailed, arrivals, picture_bodies, send_at_once, send_when_due

SIDES = 56, 224


def picture(body: bytes) -> Image.Image:
    url = json.loads(body)["messages"][0]["content"][0]["image_url"]["url"]
    return Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2])))


def test_one_seed_asks_for_the_same_work_about_other_pictures() -> None:
    one, other = (picture_bodies(30, SIDES, "seed", unlike) for unlike in ("a", "b"))
    sizes = [picture(body).size for body in one]
    assert sizes == [picture(body).size for body in other]
    assert sizes != [picture(body).size for body in picture_bodies(30, SIDES, "another seed", "a")]
    assert len({*one, *other}) == 60


def test_sizes_are_spread_evenly_over_their_logarithm() -> None:
    sides = sorted(math.sqrt(math.prod(picture(body).size)) for body in picture_bodies(40, SIDES, "seed", ""))
    assert sides[0] == pytest.approx(56, rel=0.05)
    assert sides[20] == pytest.approx(112, rel=0.05)
    assert sides[-1] == pytest.approx(224, rel=0.05)


def test_requests_come_at_the_rate_that_was_asked_for() -> None:
    due_s = arrivals(2000, 8.0, "seed")
    assert due_s == sorted(due_s)
    assert due_s[-1] == pytest.approx(250, rel=0.1)
    assert due_s == arrivals(2000, 8.0, "seed")


def test_a_request_comes_when_it_is_due_whatever_has_become_of_those_before() -> None:
    with running(PictureEndpoint(held=4)) as endpoint:  # which would hang, were the answer of one waited for
        bodies = picture_bodies(5, SIDES, "seed", "")
        answers = send_when_due(endpoint.url, bodies, [0.0, 0.0, 0.0, 0.0, 0.3])
    assert sorted(endpoint.pictures) == sorted(picture(body).size for body in bodies)
    assert all(answered.ttft_s > 0.25 for answered in answers[:4])
    assert answers[4].ttft_s < answers[0].ttft_s
    assert all(answered.ended_s >= 0.3 for answered in answers)


def test_it_is_told_where_a_picture_was_encoded_at_last() -> None:
    with running(PictureEndpoint()) as endpoint:
        answers = send_when_due(endpoint.url, picture_bodies(3, SIDES, "seed", ""), [0.0] * 3)
    assert [answered.encoder for answered in answers] == ["encoder-0", "encoder-0", "encoder-1"]
    assert {answered.tokens for answered in answers} == {40}


def test_so_many_are_under_way_and_no_more() -> None:
    with running(PictureEndpoint(held=2)) as endpoint:
        answers = send_at_once(endpoint.url, picture_bodies(12, SIDES, "seed", ""), 3)
    assert len(answers) == 12
    assert endpoint.most_at_once == 3


@pytest.mark.parametrize("endpoint", [PictureEndpoint(status=503), PictureEndpoint(rest=b"event: error\ndata: {}\n\n")])
def test_a_failed_request_ends_the_traffic(endpoint: PictureEndpoint) -> None:
    with running(endpoint), pytest.raises(TrafficFailed, match="status"):
        send_when_due(endpoint.url, picture_bodies(2, SIDES, "seed", ""), [0.0, 0.0])


def test_where_nobody_answers_that_is_said() -> None:
    with running(PictureEndpoint()) as endpoint:
        url = endpoint.url
    with pytest.raises(TrafficFailed, match="no answer from"):
        send_when_due(url, picture_bodies(1, SIDES, "seed", ""), [0.0])
