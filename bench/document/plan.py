"""Which commands make the results again, in which order, and how long each takes on two cores without a GPU.

What needs a GPU is `make gpu-checks`.
"""

import shlex
from dataclasses import dataclass
from pathlib import Path

HEADLINE_MINUTES = 60  # that `make bench` may take


@dataclass(frozen=True)
class Step:
    """A command, and what it is about."""

    name: str
    command: str  # `{kept}` in it is a folder for what it wants to find again when it is started anew
    minutes: int  # at most, with the starts of its engines
    headline: bool = False

    @property
    def shown(self) -> str:
        """The command as somebody would type it."""
        return self.command.partition(" --resume")[0]

    @property
    def result(self) -> Path:
        """The JSON that it writes, below the checkout."""
        words = shlex.split(self.command)
        return Path(words[words.index("--json") + 1])


STEPS = (
    Step(
        "itl",
        "chiasm bench itl --json bench/results/itl.json --plot docs/itl.svg --html build/itl.html --resume {kept}",
        minutes=34,
        headline=True,
    ),
    Step("overhead", "chiasm bench overhead --json bench/results/overhead.json", minutes=9, headline=True),
    Step(
        "vllm-epd",
        "chiasm bench vllm-epd --json bench/results/vllm_epd.json --plot docs/vllm_epd.svg --resume {kept}",
        minutes=16,
        headline=True,
    ),
    Step(
        "serve",
        "chiasm bench serve --json bench/results/serve.json --plot docs/serve.svg --resume {kept}",
        minutes=150,
    ),
    Step("fan-out", "chiasm bench fan-out --json bench/results/fan_out.json", minutes=10),
    Step("cross-check", "chiasm bench serve --cross-check --json bench/results/cross_check.json", minutes=25),
    Step(
        "itl-towers",
        "chiasm bench itl --towers --json bench/results/itl_towers.json --plot docs/itl_towers.svg --resume {kept}",
        minutes=65,
    ),
    *(
        Step(
            f"serve-pace{pace}",
            f"chiasm bench serve --pace {pace} --json bench/results/serve_pace{pace}.json "
            f"--plot docs/serve_pace{pace}.svg --resume {{kept}}",
            minutes=125,
        )
        for pace in (2, 4)
    ),
    Step(
        "serve-full",
        "chiasm bench serve --full --json bench/results/serve_full.json --plot docs/serve_full.svg --resume {kept}",
        minutes=300,
    ),
    *(
        Step(
            f"phases-cpu-{name}",
            f"chiasm bench phases --device cpu --model {model} --json bench/results/phases-cpu-{name}.json"
            + (f" --plot {plot}" if plot else ""),
            minutes=10,
        )
        for name, model, plot in (("pupil", "pupil", ""), ("300m", "qwen2.5-vl-300m", "docs/roofline-cpu-300m.svg"))
    ),
    Step("wire", "chiasm bench wire --json bench/results/wire.json", minutes=2),
    Step("kv-bytes", "chiasm bench kv-bytes --json bench/results/kv_bytes.json", minutes=3),
    Step(
        "scheduler", "chiasm bench scheduler --json bench/results/scheduler.json --plot docs/scheduler.svg", minutes=5
    ),
    Step("clients", "chiasm bench clients --json bench/results/clients.json", minutes=10),
    Step(
        "pupil",
        "chiasm bench pupil --number 60 --json bench/results/pupil.json --card chiasm/models/README.md",
        minutes=15,
    ),
    Step(
        "placement", "chiasm bench placement --json bench/results/placement.json --plot docs/placement.svg", minutes=20
    ),
    Step(
        "profile",
        "chiasm bench profile --json bench/results/profile.json --plot docs/roofline-live.svg "
        "--stolen docs/timeline-stolen.svg",
        minutes=20,
    ),
    Step(
        "stealing",
        "chiasm bench stealing --images 1000 --json bench/results/steal.json --plot docs/stealing.svg",
        minutes=75,  # a thousand images are what P99 takes; the default of 80 gives P95 in 20 minutes
    ),
)
HEADLINE = tuple(step for step in STEPS if step.headline)


def maker_of(result: str) -> str | None:
    """The command that writes bench/results/`result`.json, as somebody would type it."""
    for step in STEPS:
        if step.result.stem == result:
            return step.shown
    return None
