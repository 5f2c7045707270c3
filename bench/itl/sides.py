"""What is measured, side by side: arrangements that are started for it, or one endpoint; and what each is like.

A warm-up tells how many tokens a load adds to a prompt there, whether the endpoint tells a request's phases, and how
fast undisturbed bystanders are. It leaves the held pictures encoded, where that can be.
"""

import json
import random
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.itl.bodies import Body, Texts, bystander, held_pictures, lettered, with_pictures
from bench.itl.plan import SEED, Load, Plan
from bench.itl.slots import Unmeasurable, prompt_tokens
from bench.load.answers import Answer
from bench.load.asking import Endpoint, Planned
from bench.load.driver import drive
from bench.topologies.arrangement import Arrangement
from bench.topologies.arrangements import starting_all
from bench.topologies.running import Running
from bench.topologies.setting import COMMON_ARGS, Setting
from chiasm.client import EndpointError
from chiasm.footprint import footprint
from chiasm.profile.machines import ask_machines
from chiasm.telemetry.live.kv_room import kv_token_bytes

ENGINE_ARGS = (*COMMON_ARGS, "--max-num-seqs=12")  # the most bystanders, a carrier, and what runs a little longer
VALUE_BYTES = 4  # of a number in the KV cache of engines that are started here: they run in float32
WARM_UP_LETTERS = 512
PACE_TOKENS = 48  # of each stream that is timed
PACE_FROM = 16  # the first gaps are while the other streams' prompts are computed
PATIENCE_S = 300.0  # for one request of the warm-up


@dataclass(frozen=True)
class Side:
    """One that is measured."""

    name: str
    endpoint: Endpoint
    texts: Texts
    gaps_s: Mapping[int, float]  # of bystanders, by how many there are
    encoded: bool  # it tells whether an embedding was there, so that encoded pictures can be measured


@contextmanager
def started(names: Sequence[Arrangement], model: Path) -> Iterator[dict[str, Running]]:
    """These arrangements, all of them up and ready.

    Raises:
        NotEnough, NotServing, NotCalibrated, PreflightFailed: see `starting_all`.
    """
    with starting_all(names, Setting(model, engine_args=ENGINE_ARGS)) as running:
        for one in running.values():
            one.wait_ready()
        yield {str(name): one for name, one in running.items()}


def warmed_up(name: str, endpoint: Endpoint, plan: Plan, say: Callable[[str], None]) -> Side:
    """The side behind that endpoint, ready to be measured.

    Raises:
        Unmeasurable: it failed at something, or does not count prompt tokens.
    """
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
    gaps_s = {}
    for streams in plan.streams:
        say(f"{name}: timing {streams} streams")
        gaps_s[streams] = _gap_s(_ask(endpoint, [bystander(PACE_TOKENS, dice) for _ in range(streams)]))
    return Side(name, endpoint, Texts(added, per_letter), gaps_s, encoded=tells_phases)


def _prompt(endpoint: Endpoint, body: Body) -> int:
    return prompt_tokens(_ask(endpoint, [body]))


def _ask(endpoint: Endpoint, bodies: Sequence[Body]) -> list[Answer]:
    answers = drive(endpoint, [Planned(0.0, "warm-up", body) for body in bodies], timeout_s=PATIENCE_S)
    if failed := next((answer for answer in answers if not answer.ok), None):
        raise Unmeasurable(f"A request of the warm-up failed: {failed.error}")
    return answers


def _gap_s(answers: Sequence[Answer]) -> float:
    gaps = [gap for answer in answers for gap in answer.itls_s[PACE_FROM:]]
    if not gaps or not statistics.median(gaps):
        raise Unmeasurable(
            f"Of {PACE_TOKENS} tokens that were asked for, {max(len(answer.chunks_s) for answer in answers)} came one by "
            "one. The server must stream each token as it comes, and heed ignore_eos, as vLLM does."
        )
    return statistics.median(gaps)


def kv_token_bytes_at(endpoint: Endpoint) -> int | None:
    """What a token takes of the KV caches behind a gateway of Chiasm's; None of another server, which does not tell."""
    try:
        machines = ask_machines(endpoint.url, endpoint.key).machines.values()
    except EndpointError:
        return None
    return next((kv_token_bytes(machine) for machine in machines if machine.kv_blocks), None)


def kv_token_bytes_of(model: Path) -> int:
    """What a token of that model takes in engines that are started here."""
    config: dict[str, Any] = json.loads((model / "config.json").read_text())
    return footprint(config, VALUE_BYTES).kv
