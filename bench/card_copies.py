"""`chiasm bench card-copies`: embeddings between a card and host memory, by the transport's copies and by torch's own.

Also `python -m bench.card_copies`, on a machine that has only torch of what Chiasm needs.
"""

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from bench.json_option import json_option
from bench.report import write_report

SIZES = ((256, 3584), (1369, 3584), (4096, 16384))
"""[tokens, width]: small; 1024 x 1024 pixels for Qwen2.5-VL-7B; 2048 x 2048 for Qwen3-VL-8B, all levels."""
WAYS = ("to_host", "to_device", "host_waits_for_step")
"""The last is of copies to the device only: those to the host wait for what computes the tensor."""
ROUNDS = 30
WARM_UP = 3
BUSY_CYCLES = 20_000_000  # some 10 ms: a step that runs on the card meanwhile

console = Console(highlight=False)


@click.command()
@json_option
def card_copies(json_file: Path | None) -> None:
    """Time copies from a GPU into host memory with a check for NaN, and onto a GPU, alone and beside a step."""
    import torch

    if not torch.cuda.is_available():
        raise click.UsageError("torch finds no GPU here, and there is nothing to measure without one.")
    series = [_row(shape) for shape in SIZES]
    table = Table("bfloat16", "way", "by", "ms, median", "GB/s")
    for row in series:
        for way in WAYS:
            for by in ("torch", "transport"):
                ms = row[f"{way}_{by}_ms"]
                rate = "" if way == "host_waits_for_step" else f"{row['nbytes'] / ms / 1e6:.1f}"
                table.add_row(row["size"], way, by, f"{ms:.3f}", rate)
    console.print(table)
    if json_file is not None:
        write_report(
            json_file,
            name="card_copies",
            command="chiasm bench card-copies",
            headline=_headline(series),
            series=series,
            seeds=[],
        )


def _headline(series: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """How many times as quick as torch's own the transport's copies are, and their times, by size."""
    return {
        f"{way}_speedup_{row['size']}": round(row[f"{way}_torch_ms"] / row[f"{way}_transport_ms"], 2)
        for way in WAYS
        for row in series
    } | {f"{way}_ms_{row['size']}": row[f"{way}_transport_ms"] for way in WAYS for row in series}


def _row(shape: tuple[int, int]) -> dict[str, Any]:
    import torch

    from chiasm.wire.card_copies import ToDevice, ToHost, is_finite

    device = torch.device("cuda")
    tensor = torch.randn(shape, device=device).to(torch.bfloat16)
    host = tensor.cpu()
    to_host, to_device = ToHost(), ToDevice(device)

    def by_torch() -> None:
        is_finite(tensor.to("cpu"))

    def beside_a_step(copy: Callable[[], object]) -> float:
        """Milliseconds that the host is held up while the card is busy with something else."""
        torch.cuda._sleep(BUSY_CYCLES)
        start = time.perf_counter()
        copy()
        return 1000 * (time.perf_counter() - start)

    onto = {"torch": lambda: host.to(device), "transport": lambda: to_device.copy(host)}
    back = {"torch": by_torch, "transport": lambda: to_host.copy(tensor)}
    row: dict[str, Any] = {"size": "{}x{}".format(*shape), "nbytes": tensor.nbytes, "rounds": ROUNDS}
    times: dict[str, list[float]] = {}
    for number in range(WARM_UP + ROUNDS):
        for by in onto:  # by turns, so that a disturbance meets both
            taken = {
                f"to_host_{by}_ms": _alone(back[by]),
                f"to_device_{by}_ms": _alone(onto[by]),
                f"host_waits_for_step_{by}_ms": beside_a_step(onto[by]),
            }
            if number >= WARM_UP:
                for key, value in taken.items():
                    times.setdefault(key, []).append(value)
    return row | {key: round(statistics.median(values), 4) for key, values in times.items()}


def _alone(copy: Callable[[], object]) -> float:
    """Milliseconds until it is done, on an idle card."""
    import torch

    torch.cuda.synchronize()
    start = time.perf_counter()
    copy()
    torch.cuda.synchronize()
    return 1000 * (time.perf_counter() - start)


if __name__ == "__main__":
    card_copies()
