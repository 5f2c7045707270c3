"""Which of several arrangements is worth being measured to the end."""

from collections.abc import Sequence

from bench.serve.measured import Measured


def best_of(names: Sequence[str], measured: Measured) -> str:
    """The one whose goodput is, on the mean over workloads and objectives of the grid, the nearest to the highest.

    Objectives that none of them keeps at any rate count for nobody.
    """
    grid = measured.plan.grid()
    scores = dict.fromkeys(names, 0.0)
    for contest in measured.contests.values():
        for objectives in grid:
            goodputs = {name: contest.sides[name].climb.goodput(objectives) for name in names}
            highest = max(goodputs.values())
            if highest:
                for name, goodput in goodputs.items():
                    scores[name] += goodput / highest
    return max(names, key=scores.__getitem__)
