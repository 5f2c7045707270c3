"""What a side is like, which its warm-up tells: how many tokens a load adds to a prompt there, and whether the endpoint
tells a request's phases. It leaves the held pictures encoded, where that can be.
"""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from bench.itl.bodies import Body, Texts, bystander, held_pictures, lettered, with_pictures
from bench.itl.plan import SEED, Load, Plan
from bench.itl.slots import Unmeasurable, prompt_tokens
from bench.load.answers import Answer
from bench.load.asking import Endpoint, Planned
from bench.load.driver import drive
from bench.topologies.turns import Wake

WARM_UP_LETTERS = 512
PACE_TOKENS = 16  # of an answer that is to come token by token
PATIENCE_S = 300.0  # for one request of the warm-up


@dataclass(frozen=True)
class Side:
    """One that is measured."""

    name: str
    wake: Wake
    texts: Texts
    encoded: bool  # it tells whether an embedding was there, so that encoded pictures can be measured


def warmed_up(name: str, wake: Wake, plan: Plan, say: Callable[[str], None]) -> Side:
    """The side behind the endpoint that wakes so, ready to be measured.

    Raises:
        Unmeasurable: it failed at something, or does not count prompt tokens.
    """
    endpoint = wake()
    dice = random.Random(f"{SEED} warming up {name}")
    without = _prompt(endpoint, bystander(1, dice))
    if without == 0:
        raise Unmeasurable(f"{endpoint.url} counts no tokens in a prompt, so that there is nothing to measure against.")
    per_letter = (_prompt(endpoint, lettered(WARM_UP_LETTERS, 1, dice)) - without) / WARM_UP_LETTERS
    added: dict[Load, int] = {}
    tells_phases = True
    for load in plan.loads:
        say(f"{name}: warming up, {load}")
        answer = _ask(endpoint, [with_pictures(held_pictures(load), 1, dice)])[0]
        tells_phases &= bool(answer.phases_ms)
        added[load] = prompt_tokens([answer]) - without
    _must_stream(_ask(endpoint, [bystander(PACE_TOKENS, dice)])[0])
    return Side(name, wake, Texts(added, per_letter), encoded=tells_phases)


def _prompt(endpoint: Endpoint, body: Body) -> int:
    return prompt_tokens(_ask(endpoint, [body]))


def _ask(endpoint: Endpoint, bodies: Sequence[Body]) -> list[Answer]:
    answers = drive(endpoint, [Planned(0.0, "warm-up", body) for body in bodies], timeout_s=PATIENCE_S)
    if failed := next((answer for answer in answers if not answer.ok), None):
        raise Unmeasurable(f"A request of the warm-up failed: {failed.error}")
    return answers


def _must_stream(answer: Answer) -> None:
    if len(answer.tokens_s) < PACE_TOKENS // 2 or not any(answer.gaps_s):
        raise Unmeasurable(
            f"{PACE_TOKENS} tokens that were asked for came in {len(answer.tokens_s)} pieces. The server must stream "
            "each token as it comes, and heed ignore_eos, as vLLM does."
        )
