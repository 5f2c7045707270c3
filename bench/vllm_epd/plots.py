"""The picture of `bench.vllm_epd`."""

from collections.abc import Sequence
from pathlib import Path

from bench.vllm_epd.figures import OURS, THEIRS, THROUGHPUT, TTFT, Row, medians

LABELS = {OURS: "Chiasm, split", THEIRS: "vLLM's encoder disaggregation"}


def draw(series: Sequence[Row], file: Path) -> None:
    """Time to first token and throughput of both sides against load: medians, and bars over all rounds."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    counts = list(dict.fromkeys(row["images"] for row in series))
    figure, panels = pyplot.subplots(
        2, len(counts), figsize=(5.5 * len(counts), 7), layout="constrained", squeeze=False
    )
    for column, images in enumerate(counts):
        for panel, name in ((panels[0][column], TTFT), (panels[1][column], THROUGHPUT)):
            for side, label in LABELS.items():
                found = medians(series, side, images, name)
                middles, least, most = zip(*found.values(), strict=True)
                bars = [
                    [middle - low for middle, low in zip(middles, least, strict=True)],
                    [high - middle for middle, high in zip(middles, most, strict=True)],
                ]
                panel.errorbar(list(found), middles, yerr=bars, marker="o", capsize=3, label=label)
            panel.set_ylim(bottom=0)
            panel.set_xlabel("requests, to what vLLM's own does at most")
        panels[0][column].set_title(f"{images} pictures in a request" if images > 1 else "one picture in a request")
        panels[0][column].set_ylabel("time to first token, P50, ms")
        panels[1][column].set_ylabel("output tokens/s")
        panels[0][column].legend()
    figure.savefig(file)
    pyplot.close(figure)
