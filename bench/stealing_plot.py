"""The picture of `bench.stealing`."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any


def plot_stealing(
    series: Sequence[Mapping[str, Any]],
    ttfts_ms: Mapping[str, Sequence[float]],
    pauses: Mapping[float, int],
    file: Path,
) -> None:
    """Draw every burst, images' times to first token, and pauses.

    `ttfts_ms` are sorted, by arrangement; `pauses` says how many took at most so many seconds.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, (bursts, images, held) = pyplot.subplots(1, 3, figsize=(13, 4), layout="constrained")
    rows = [row for row in series if row["traffic"] == "burst"]
    for name in dict.fromkeys(row["arrangement"] for row in rows):
        rates = [row["tokens_per_s"] for row in rows if row["arrangement"] == name]
        bursts.plot([name] * len(rates), rates, "o")
    bursts.set_ylim(bottom=0)
    bursts.set_ylabel("tokens/s")
    bursts.set_title("A burst of text, each round")
    for name, times in ttfts_ms.items():
        seconds = [time / 1000 for time in times]
        images.step(seconds, [(rank + 1) / len(times) for rank in range(len(times))], where="post", label=name)
    images.set_xlim(left=0)
    images.set_xlabel("seconds to the first token")
    images.set_ylabel("share of requests with an image")
    images.set_title("Images among text")
    images.legend()
    if count := max(pauses.values(), default=0):
        rising = [bound for bound in sorted(pauses) if pauses[bound] < count]
        ends = min(
            bound for bound in pauses if pauses[bound] == count
        )  # infinite where one took longer than any bucket
        bounds = [bound for bound in (0.0, *rising, ends) if bound < float("inf")]
        held.plot([1000 * bound for bound in bounds], [pauses.get(bound, 0) / count for bound in bounds], marker=".")
        held.set_xlim(left=0)
    held.set_xlabel("ms until the text engine stands still")
    held.set_ylabel("share of pauses")
    held.set_title("From pause to encode alone")
    figure.savefig(file)
    pyplot.close(figure)
