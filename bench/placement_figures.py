"""What follows from the answers that `bench.placement` has timed: points, ratios, a table, a picture."""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.table import Table

from bench.percentiles import named, percentile, tail
from bench.picture_traffic import Answered
from bench.two_encoders import FAST

HOUSE = "least finish"
SHARES = (0.5, 0.95, 0.99)  # the percentiles that are told


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

    capacity: Capacity
    share: float  # of it
    rounds: dict[str, list[list[Answered]]]

    @property
    def per_s(self) -> float:
        """How many pictures came."""
        return self.share * self.capacity.per_s

    def together(self, policy: str) -> list[Answered]:
        """The answers of all rounds."""
        return [answered for one in self.rounds[policy] for answered in one]


def points(turns: Turns) -> list[dict[str, Any]]:
    """For each policy one point for all rounds together, with what the house needs of its time, and one a round."""
    found = []
    load = {
        "encoder_speed_ratio": round(turns.capacity.speed_ratio, 3),
        "load": round(turns.share, 3),
        "pictures_per_s": round(turns.per_s, 2),
    }
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
        **{f"{named(share)}_ttft_ms": round(1000 * _ttft_s(answers, share), 1) for share in SHARES},
        "pictures_to_the_fast_encoder": round(len(fast) / len(answers), 3),
        "tokens_to_the_fast_encoder": round(sum(fast) / sum(answered.tokens for answered in answers), 3),
    }


def _ttft_s(answers: Sequence[Answered], share: float) -> float:
    return percentile([answered.ttft_s for answered in answers], share)


def _ratios(turns: Turns, policy: str) -> dict[str, float]:
    """The house's time over this policy's: of all answers, and the middle, the least and the most of the rounds."""
    found = {}
    for share in SHARES:
        ratio = _ttft_s(turns.together(HOUSE), share) / _ttft_s(turns.together(policy), share)
        each = [
            _ttft_s(house, share) / _ttft_s(other, share)
            for house, other in zip(turns.rounds[HOUSE], turns.rounds[policy], strict=True)
        ]
        found[f"{named(share)}_ratio"] = round(ratio, 3)
        for name, choose in (("median", statistics.median), ("least", min), ("most", max)):
            found[f"{named(share)}_ratio_{name}"] = round(choose(each), 3)
    return found


def headline(series: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """How unequal the encoders of the first setting are, how much came, and the house's time over the others'."""
    first = _settings(series)[0]
    figures = {name: first[0][name] for name in ("encoder_speed_ratio", "load")}
    for share in (0.5, _tail(first)):
        for point in first:
            if point["policy"] != HOUSE:
                name = point["policy"].replace(" ", "_")
                figures[f"{named(share)}_ttft_vs_{name}"] = point[f"{named(share)}_ratio"]
    return figures


def _settings(series: Sequence[Mapping[str, Any]]) -> list[list[Mapping[str, Any]]]:
    """The points of all rounds together, setting by setting; each setting begins with the house's."""
    settings: list[list[Mapping[str, Any]]] = []
    for point in series:
        if point["round"] == "all":
            if point["policy"] == HOUSE:
                settings.append([])
            settings[-1].append(point)
    return settings


def _tail(setting: Sequence[Mapping[str, Any]]) -> float:
    return tail(min(point["answers"] for point in setting))


def as_table(series: Sequence[Mapping[str, Any]]) -> Table:
    """What a person reads: the rounds together, and how far they were apart."""
    table = Table(
        title="time to first token; ratios are the house's over this one's, of all answers (and of the rounds)"
    )
    for column in ("encoders", "load", "placed by", "answers", "to the fast one"):
        table.add_column(column, justify="left" if column == "placed by" else "right")
    for share in SHARES:
        table.add_column(f"{named(share).upper()} ms", justify="right")
        table.add_column("ratio", justify="right")
    for setting in _settings(series):
        for point in setting:
            table.add_row(
                f"1 : {point['encoder_speed_ratio']:.2f}",
                f"{100 * point['load']:.0f} %",
                point["policy"],
                str(point["answers"]),
                f"{100 * point['pictures_to_the_fast_encoder']:.0f} %",
                *(
                    text
                    for share in SHARES
                    for text in (_told(point, named(share)) if share <= _tail(setting) else ("–", ""))
                ),
            )
        table.add_section()
    return table


def _told(point: Mapping[str, Any], which: str) -> tuple[str, str]:
    name = f"{which}_ratio"
    ratio = f"{point[name]:.2f} ({point[f'{name}_least']:.2f}–{point[f'{name}_most']:.2f})" if name in point else ""
    return f"{point[f'{which}_ttft_ms']:.0f}", ratio


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
    axes.set_title(f"Two encoders, 1 : {turns.capacity.speed_ratio:.1f}, at {100 * turns.share:.0f} % load")
    axes.legend()
    figure.savefig(file)
    pyplot.close(figure)
