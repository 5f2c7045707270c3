"""What follows from the answers that `bench.placement` has timed: points, ratios, a table, a picture."""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.table import Table

from bench.picture_traffic import Answered
from bench.unequal_cluster import FAST

HOUSE = "least finish"
PERCENTILES = (50, 95, 99)
ENOUGH_FOR_P99 = 1000  # answers; with fewer the 95th percentile is told


@dataclass(frozen=True)
class Capacity:
    """What the cluster does at most, as seen while its encoders were never without work."""

    per_s: float  # pictures
    fast_tokens_per_s: float
    slow_tokens_per_s: float

    @property
    def speed_ratio(self) -> float:
        """How many times as fast as the slow encoder the other one is."""
        return self.fast_tokens_per_s / self.slow_tokens_per_s

    @property
    def halves(self) -> float:
        """The share of `per_s` of which the slow encoder can do half.

        Beyond it whoever gives each encoder half of the pictures falls further and further behind, and what is told of
        that tells only for how long one looked.
        """
        return 2 / (1 + self.speed_ratio)


@dataclass
class Turns:
    """What was seen under one load: answers of each policy, round by round."""

    share: float  # of what the cluster can do
    per_s: float  # pictures
    rounds: dict[str, list[list[Answered]]]

    def together(self, policy: str) -> list[Answered]:
        """The answers of all rounds."""
        return [answered for one in self.rounds[policy] for answered in one]


def percentile_ms(answers: Sequence[Answered], percent: int) -> float:
    """The time to first token that so many of these do not exceed."""
    every = sorted(answered.ttft_s for answered in answers)
    return round(1000 * every[min(len(every) * percent // 100, len(every) - 1)], 1)


def points(setting: str, turns: Turns) -> list[dict[str, Any]]:
    """For each policy one point for all rounds together, with what the house needs of its time, and one a round."""
    found = []
    load = {"setting": setting, "load": round(turns.share, 3), "pictures_per_s": round(turns.per_s, 2)}
    for policy in turns.rounds:
        point = load | {"policy": policy, "round": "all"} | _figures(turns.together(policy))
        if policy != HOUSE:
            point |= _ratios(turns, policy)
        found.append(point)
        for number, answers in enumerate(turns.rounds[policy], 1):
            found.append(load | {"policy": policy, "round": number} | _figures(answers))
    return found


def _figures(answers: Sequence[Answered]) -> dict[str, Any]:
    fast = [answered.tokens for answered in answers if answered.encoder == FAST]
    return {
        "answers": len(answers),
        **{f"p{percent}_ttft_ms": percentile_ms(answers, percent) for percent in PERCENTILES},
        "pictures_to_the_fast_encoder": round(len(fast) / len(answers), 3),
        "tokens_to_the_fast_encoder": round(sum(fast) / sum(answered.tokens for answered in answers), 3),
    }


def _ratios(turns: Turns, policy: str) -> dict[str, float]:
    """The house's time over this policy's: of all answers, and the middle, the least and the most of the rounds."""
    found = {}
    for percent in PERCENTILES:
        ours, theirs = (percentile_ms(turns.together(name), percent) for name in (HOUSE, policy))
        each = [
            percentile_ms(house, percent) / percentile_ms(other, percent)
            for house, other in zip(turns.rounds[HOUSE], turns.rounds[policy], strict=True)
        ]
        found[f"p{percent}_ratio"] = round(ours / theirs, 3)
        for name, choose in (("median", statistics.median), ("least", min), ("most", max)):
            found[f"p{percent}_ratio_{name}"] = round(choose(each), 3)
    return found


def headline(capacity: Capacity, series: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """How unequal the encoders are, and the house's time over the others', under the first load of the series."""
    together = [point for point in series if point["round"] == "all"]
    under_load = [point for point in together if point["setting"] == series[0]["setting"]]
    figures = {"encoder_speed_ratio": round(capacity.speed_ratio, 3), "load": under_load[0]["load"]}
    for percent in (50, _tail(under_load)):
        for point in under_load:
            if point["policy"] != HOUSE:
                name = point["policy"].replace(" ", "_")
                figures[f"p{percent}_ttft_vs_{name}"] = point[f"p{percent}_ratio"]
    return figures


def _tail(together: Sequence[Mapping[str, Any]]) -> int:
    """The highest percentile that there are enough answers for."""
    return 99 if min(point["answers"] for point in together) >= ENOUGH_FOR_P99 else 95


def as_table(series: Sequence[Mapping[str, Any]]) -> Table:
    """What a person reads: the rounds together, and how far they were apart."""
    together = [point for point in series if point["round"] == "all"]
    table = Table(title="time to first token in ms; ratios are the house's time over this one's, and of the rounds")
    for column in (
        "load",
        "placed by",
        "answers",
        "P50",
        "P95",
        "P99",
        "to fast",
        "P50 ratio",
        "P95 ratio",
        "P99 ratio",
    ):
        table.add_column(column, justify="left" if column == "placed by" else "right")
    for setting in dict.fromkeys(point["setting"] for point in together):
        rows = [point for point in together if point["setting"] == setting]
        for point in rows:
            table.add_row(
                f"{100 * point['load']:.0f} %",
                point["policy"],
                str(point["answers"]),
                *(f"{point[f'p{percent}_ttft_ms']:.0f}" if percent <= _tail(rows) else "–" for percent in PERCENTILES),
                f"{100 * point['pictures_to_the_fast_encoder']:.0f} %",
                *(_ratio(point, percent) if percent <= _tail(rows) else "–" for percent in PERCENTILES),
            )
        table.add_section()
    return table


def _ratio(point: Mapping[str, Any], percent: int) -> str:
    name = f"p{percent}_ratio"
    if name not in point:
        return ""
    return f"{point[name]:.2f} ({point[f'{name}_least']:.2f}–{point[f'{name}_most']:.2f})"


def draw(turns: Turns, file: Path) -> None:
    """The share of pictures that wait longer than so long, on a logarithmic axis: there the tails are."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(7, 4), layout="constrained")
    for policy in turns.rounds:
        waits_s = sorted(answered.ttft_s for answered in turns.together(policy))
        longer = [1 - position / len(waits_s) for position in range(len(waits_s))]
        axes.step(waits_s, longer, where="post", label=policy)
    axes.set_yscale("log")
    axes.set_xlim(left=0)
    axes.set_xlabel("time to first token, s")
    axes.set_ylabel("share of pictures that wait longer")
    axes.set_title(f"Two unequal encoders at {100 * turns.share:.0f} % load, by how encodes are placed")
    axes.legend()
    figure.savefig(file)
    pyplot.close(figure)
