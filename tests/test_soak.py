"""Hours of questions while engines are killed: every request ends in the right answer or in one named error.

`CHIASM_SOAK_MINUTES` sets how long (60 unless set).
"""

import os
import random
import time
from collections.abc import Iterator

import pytest
from engines import chat, picture, tokens
from test_cluster import Serving, running_serving

from chiasm.client import EndpointError

pytestmark = [pytest.mark.soak, pytest.mark.engine, pytest.mark.timeout(0)]

MINUTES = float(os.environ.get("CHIASM_SOAK_MINUTES", "60"))
PICTURES = 200
KILL_EVERY_S = 120.0
NAMED_ERRORS = ("answered 502", "answered 503", "answered 504")


@pytest.fixture(scope="module")
def serving(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    with running_serving(tmp_path_factory.mktemp("soak")) as serving:
        yield serving


def test_no_answer_is_ever_wrong(serving: Serving) -> None:
    dice = random.Random(0)
    expected: dict[tuple[int, ...], list[int]] = {}
    end, next_kill = time.monotonic() + 60 * MINUTES, time.monotonic() + KILL_EVERY_S
    answered = failed = 0
    while time.monotonic() < end:
        if time.monotonic() > next_kill:
            serving.front_end(dice.choice(["encoder", "decoder"])).kill()
            next_kill = time.monotonic() + KILL_EVERY_S
        seeds = tuple(dice.randrange(PICTURES) for _ in range(dice.choice([0, 1, 1, 1, 3])))
        body = chat([picture(seed) for seed in seeds])
        if seeds not in expected:
            expected[seeds] = tokens(serving.ask_whole(body))
        try:
            assert tokens(serving.ask(body)) == expected[seeds], f"a wrong answer about {seeds}"
            answered += 1
        except EndpointError as error:
            if not any(name in str(error) for name in NAMED_ERRORS):
                raise
            failed += 1
    print(f"{answered} answered, {failed} failed by name")
    assert answered > 0
