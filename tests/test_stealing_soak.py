"""Text that is stolen, paused and given back hundreds of times under load: every answer complete, and as if unstolen.

`CHIASM_SOAK_RETURNS` sets how many pauses and how many returns there must have been (500 unless set).
"""

import os
import random
import threading
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from typing import Any

import pytest
from engines import TOKENS, chat, picture, tokens
from serving import Serving, running_cluster

from chiasm.api_paths import CHAT_PATH, COMPLETIONS_PATH
from chiasm.client import post_json, post_stream

pytestmark = [pytest.mark.soak, pytest.mark.engine, pytest.mark.timeout(0)]

RETURNS = int(os.environ.get("CHIASM_SOAK_RETURNS", "500"))
STREAMS = 32  # of text, at any time: four times what the decoder holds
TIE = 1e-4  # between the two best logits: less is no difference in float32
TIES = 0.01  # of all answers, at most: at one the rest goes unchecked
ONE, MANY = [112], [448] * 8  # pixels of a side, of an interruption's images
IDLE_S = 600.0  # without an interruption: then nothing is stolen any more

# A single image is encoded within the objective, so that what was paused goes on; several are not, and it goes back.
TEXT_KEY, IMAGE_KEY = "text", "images"  # so that images do not wait behind all the text, and interrupt often
CONFIG = f"""
served_model_name: model
gateway: {{port: 0, api_keys: [{TEXT_KEY}, {IMAGE_KEY}], api_key_weights: {{{IMAGE_KEY}: 20}}}}
scheduler: {{stealing: yield, itl_slo_ms: 300}}
decoders: {{engine_args: [--max-num-seqs=8]}}
"""


@pytest.fixture(scope="module")
def serving(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    with running_cluster(tmp_path_factory.mktemp("stealing-soak"), CONFIG) as serving:
        yield serving


@dataclass(frozen=True)
class Story:
    """What is asked for."""

    number: int
    length: int  # tokens
    path: str

    @property
    def body(self) -> dict[str, Any]:
        body = chat([], f"Tell me story number {self.number}.", max_tokens=self.length)
        if self.path == COMPLETIONS_PATH:
            del body["messages"]
            body["prompt"] = f"Story number {self.number}:"
        return body


STORIES = [
    Story(number, length, path)
    for number in range(4)
    for length in (60, 120, 240)
    for path in (CHAT_PATH, COMPLETIONS_PATH)
]


@dataclass
class Told:
    """A story as it is told, in one piece or in many."""

    tokens: list[int] = field(default_factory=list)
    text: str = ""
    ids: set[str] = field(default_factory=set)
    reasons: list[str] = field(default_factory=list)
    usages: list[dict[str, Any]] = field(default_factory=list)

    def take(self, piece: dict[str, Any]) -> None:
        self.ids.add(piece["id"])
        if piece.get("usage"):
            self.usages.append(piece["usage"])
        for choice in piece["choices"]:
            self.tokens += choice.get("token_ids") or []
            said = choice.get("delta") or choice.get("message") or {"content": choice.get("text")}
            self.text += said.get("content") or ""
            if choice["finish_reason"]:
                self.reasons.append(choice["finish_reason"])


@dataclass(frozen=True)
class Unstolen:
    """A story as the decoder tells it when nobody else is there."""

    told: Told
    margins: list[float]  # between the two best logits, token by token

    @classmethod
    def of(cls, serving: Serving, story: Story) -> "Unstolen":
        chat = story.path == CHAT_PATH
        wanted = {"logprobs": True, "top_logprobs": 2} if chat else {"logprobs": 2}
        answer = post_json(serving.url, story.path, story.body | wanted, TEXT_KEY)[0]
        [choice] = answer["choices"]
        if chat:
            best = [[top["logprob"] for top in one["top_logprobs"]] for one in choice["logprobs"]["content"]]
        else:
            best = [list(top.values()) for top in choice["logprobs"]["top_logprobs"]]
        told = Told()
        told.take(answer)
        assert len(best) == len(told.tokens) == story.length
        return cls(told, [first - second for first, second in (sorted(top, reverse=True)[:2] for top in best)])


class Load:
    """Answers of text, one after the other in each of several threads, every one held against the unstolen story."""

    def __init__(self, serving: Serving, stories: Mapping[Story, Unstolen]) -> None:
        self.complete = self.ties = 0
        self._serving = serving
        self._stories = stories
        self._over = threading.Event()
        self._counting = threading.Lock()
        self._pool = ThreadPoolExecutor(STREAMS)
        self._lines = [self._pool.submit(self._ask, random.Random(line)) for line in range(STREAMS)]

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

    def _ask(self, dice: random.Random) -> None:
        while not self._over.is_set():
            story = dice.choice(STORIES)
            told = self._streamed(story) if dice.random() < 0.8 else self._in_one_piece(story)
            tie = differs_by_a_tie(told, self._stories[story])
            with self._counting:
                self.complete += 1
                self.ties += tie

    def _streamed(self, story: Story) -> Told:
        told = Told()
        body = story.body | {"stream": True, "stream_options": {"include_usage": True}}
        with post_stream(self._serving.url, story.path, body, TEXT_KEY) as (events, _):
            for event in events:
                told.take(event)
        return told

    def _in_one_piece(self, story: Story) -> Told:
        told = Told()
        told.take(post_json(self._serving.url, story.path, story.body, TEXT_KEY)[0])
        return told


def differs_by_a_tie(told: Told, unstolen: Unstolen) -> bool:
    """Does it take another way where two tokens were equally likely? Any other difference is an AssertionError."""
    right = unstolen.told
    assert (len(told.ids), told.reasons, len(told.tokens)) == (1, ["length"], len(right.tokens))
    [usage], [right_usage] = told.usages, right.usages
    for name in ("prompt_tokens", "completion_tokens", "total_tokens"):
        assert usage[name] == right_usage[name]
    for place, (ours, theirs) in enumerate(zip(told.tokens, right.tokens, strict=True)):
        if ours != theirs:
            assert unstolen.margins[place] < TIE, f"token {place} differs: {ours} instead of {theirs}"
            return True
    assert told.text == right.text
    return False


def stealing(serving: Serving) -> int:
    """How many streams the thief holds."""
    return sum(worker["running"] for worker in serving.status(TEXT_KEY)["workers"] if worker["role"] == "text")


def test_stolen_text_is_as_if_unstolen(serving: Serving) -> None:
    dice = random.Random(0)
    stories = {story: Unstolen.of(serving, story) for story in STORIES}
    assert serving.status(TEXT_KEY)["counters"]["stolen"] == 0  # the decoder had a credit for each
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
                counters = serving.status(TEXT_KEY)["counters"]
                if stealing(serving):
                    time.sleep(dice.uniform(0.1, 0.8))  # it takes several streams, and generates
                    sides = MANY if dice.random() < 0.8 else ONE
                    bodies = [chat([picture(next(pictures), side, side)]) for side in sides]
                    asked = [asking.submit(serving.ask, body, IMAGE_KEY) for body in bodies]
                    images += asked
                    if sides is MANY:
                        wait(asked)  # else images queue up before the decoder, and nothing can return there
                    interrupted = time.monotonic()
        finally:
            load.end()
    for image in images:
        assert len(tokens(image.result())) == TOKENS
    counters = serving.status(TEXT_KEY)["counters"]
    print(f"{load.complete} answers, {load.ties} of which differ at a tie; {len(images)} images; {counters}")
    assert counters["done"] == counters["submitted"] == load.complete + len(images) + len(STORIES)
    assert load.ties <= TIES * load.complete
