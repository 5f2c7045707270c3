"""Text that is stolen, paused and given back hundreds of times under load: every stream complete, and as if unstolen.

`CHIASM_SOAK_RETURNS` sets how many pauses and how many returns there must have been (500 unless set).
"""

import os
import random
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from typing import Any

import pytest
from engines import TOKENS, chat, picture, tokens
from serving import Serving, running_cluster

from chiasm.client import post_stream

pytestmark = [pytest.mark.soak, pytest.mark.engine, pytest.mark.timeout(0)]

RETURNS = int(os.environ.get("CHIASM_SOAK_RETURNS", "500"))
STREAMS = 24  # of text, at any time: four times what the decoder holds
STORIES = 12
LENGTHS = (100, 400)  # tokens
TIE = 1e-4  # between the two best logits: less is no difference in float32
ONE, MANY = [112], [448] * 24  # pixels of a side, of an interruption's images
IDLE_S = 600.0  # without an interruption: then nothing is stolen any more

# A single image is encoded within the objective, so that what was paused goes on; several are not, and it goes back.
CONFIG = """
served_model_name: model
gateway: {port: 0}
scheduler: {stealing: yield, itl_slo_ms: 300}
decoders: {engine_args: [--max-num-seqs=4]}
"""


@pytest.fixture(scope="module")
def serving(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    with running_cluster(tmp_path_factory.mktemp("stealing-soak"), CONFIG) as serving:
        yield serving


def story(number: int, length: int, **options: Any) -> dict[str, Any]:
    return chat([], f"Tell me story number {number}.", max_tokens=length, **options)


@dataclass(frozen=True)
class Unstolen:
    """A story as the decoder tells it when nobody else is there."""

    tokens: list[int]
    text: str
    margins: list[float]  # between the two best logits, token by token
    prompt_tokens: int

    @classmethod
    def told(cls, serving: Serving, number: int) -> "Unstolen":
        answer = serving.ask(story(number, LENGTHS[1], logprobs=True, top_logprobs=2))
        [choice] = answer["choices"]
        best = [[top["logprob"] for top in one["top_logprobs"][:2]] for one in choice["logprobs"]["content"]]
        margins = [abs(first - second) for first, second in best]
        return cls(tokens(answer), choice["message"]["content"], margins, answer["usage"]["prompt_tokens"])


@dataclass
class Told:
    """A story as its stream tells it."""

    tokens: list[int] = field(default_factory=list)
    text: str = ""
    ids: set[str] = field(default_factory=set)
    reasons: list[str] = field(default_factory=list)
    usages: list[dict[str, int]] = field(default_factory=list)

    def take(self, event: dict[str, Any]) -> None:
        self.ids.add(event["id"])
        if event.get("usage"):
            self.usages.append(event["usage"])
        for choice in event["choices"]:
            self.tokens += choice.get("token_ids") or []
            self.text += choice["delta"].get("content") or ""
            if choice["finish_reason"]:
                self.reasons.append(choice["finish_reason"])


class Load:
    """Streams of text, one after the other in each of several threads, every one held against the unstolen story."""

    def __init__(self, serving: Serving, stories: list[Unstolen]) -> None:
        self.complete = self.ties = 0
        self._serving = serving
        self._stories = stories
        self._over = threading.Event()
        self._counting = threading.Lock()
        self._pool = ThreadPoolExecutor(STREAMS)
        self._lines = [self._pool.submit(self._tell, random.Random(line)) for line in range(STREAMS)]

    def check(self) -> None:
        """Raises what has gone wrong so far."""
        for line in self._lines:
            if line.done():
                line.result()

    def end(self) -> None:
        """Let what is under way come to its end."""
        self._over.set()
        self._pool.shutdown()
        self.check()

    def _tell(self, dice: random.Random) -> None:
        while not self._over.is_set():
            number, length = dice.randrange(STORIES), dice.randint(*LENGTHS)
            body = story(number, length, stream=True, stream_options={"include_usage": True})
            told = Told()
            with post_stream(self._serving.url, "/v1/chat/completions", body) as (events, _):
                for event in events:
                    told.take(event)
            tie = differs_by_a_tie(told, self._stories[number], length)
            with self._counting:
                self.complete += 1
                self.ties += tie


def differs_by_a_tie(told: Told, unstolen: Unstolen, length: int) -> bool:
    """Does it take another way where two tokens were equally likely? Any other difference is an AssertionError."""
    assert (len(told.ids), told.reasons, len(told.tokens)) == (1, ["length"], length)
    [usage] = told.usages
    assert (usage["prompt_tokens"], usage["completion_tokens"]) == (unstolen.prompt_tokens, length)
    for place, (ours, theirs) in enumerate(zip(told.tokens, unstolen.tokens, strict=False)):
        if ours != theirs:
            assert unstolen.margins[place] < TIE, f"token {place} differs: {ours} instead of {theirs}"
            return True
    assert unstolen.text.startswith(told.text.rstrip("\ufffd"))  # which stands for a character that was cut in two
    return False


def stealing(serving: Serving) -> int:
    """How many streams the thief holds."""
    return sum(worker["running"] for worker in serving.status()["workers"] if worker["role"] == "text")


def test_stolen_streams_are_as_if_unstolen(serving: Serving) -> None:
    dice = random.Random(0)
    stories = [Unstolen.told(serving, number) for number in range(STORIES)]
    assert serving.status()["counters"]["stolen"] == 0  # the decoder had a credit for each
    load = Load(serving, stories)
    pictures = iter(range(1_000_000))
    images: list[Future[dict[str, Any]]] = []
    counters: dict[str, int] = {}
    with ThreadPoolExecutor(64) as asking:
        try:
            interrupted = time.monotonic()
            while min(counters.get("paused", 0), counters.get("returned", 0)) < RETURNS:
                time.sleep(0.2)
                load.check()
                assert time.monotonic() - interrupted < IDLE_S, f"nothing is stolen any more: {counters}"
                counters = serving.status()["counters"]
                if stealing(serving):
                    time.sleep(dice.uniform(0.1, 0.8))  # it takes several streams, and generates
                    sides = MANY if dice.random() < 0.5 else ONE
                    bodies = [chat([picture(next(pictures), side, side)]) for side in sides]
                    asked = [asking.submit(serving.ask, body) for body in bodies]
                    images += asked
                    if sides is MANY:
                        wait(asked)  # else images queue up before the decoder, and nothing can return there
                    interrupted = time.monotonic()
        finally:
            load.end()
    for image in images:
        assert len(tokens(image.result())) == TOKENS
    counters = serving.status()["counters"]
    print(f"{load.complete} streams, {load.ties} of which differ at a tie; {len(images)} images; {counters}")
    assert counters["done"] == counters["submitted"] == load.complete + len(images) + STORIES
