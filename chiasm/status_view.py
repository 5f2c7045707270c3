"""The answer of `/v1/chiasm/status` as tables for a terminal, 80 columns wide or wider."""

from typing import Any

from rich import box
from rich.table import Table

MOST_DIGITS = 7


def status_tables(status: dict[str, Any]) -> list[Table]:
    """A table of workers, one of those that took a fallback, one of thieves if there are any, one of counts."""
    workers = _table("ready" if status["ready"] else "not ready")
    for heading in ("running", "waiting", "slots", "KV tokens", "tokens/s", "images held"):
        breaks = " " in heading
        workers.add_column(heading, justify="right", no_wrap=not breaks, min_width=MOST_DIGITS if breaks else None)
    workers.add_column("node", overflow="fold")
    for worker in status["workers"]:
        workers.add_row(
            worker["worker"],
            str(worker["running"]),
            str(worker["waiting"]),
            str(worker["slots"]),
            str(worker["kv_tokens"] or "–"),
            f"{worker['tokens_per_s']:.0f}" if worker["measured"] else "assumed",
            str(worker["held"]) if worker["role"] == "encoder" else "–",
            worker["node"],
        )
    counts = Table(show_header=False, box=box.SIMPLE)
    for name in ("encoding", "withheld", "decoding"):
        counts.add_row(f"requests {name} now", str(status[name]))
    for name, value in sorted(status["counters"].items()):
        if value:
            counts.add_row(name.replace("_", " "), str(value))
    return [workers, *_astray(status["workers"]), *_thieves(status["thieves"]), counts]


def _astray(workers: list[dict[str, Any]]) -> list[Table]:
    astray = [worker for worker in workers if worker["fallback"]]
    if not astray:
        return []
    table = Table(title="warning: not where their pools want them", title_justify="left", box=box.SIMPLE)
    table.add_column("worker", no_wrap=True)
    table.add_column("why")
    for worker in astray:
        table.add_row(worker["worker"], worker["fallback"])
    return [table]


def _thieves(thieves: list[dict[str, Any]]) -> list[Table]:
    if not thieves:
        return []
    table = _table("stealing")
    for heading in ("paused", "encoder busy", "patience s", "may hold"):
        table.add_column(heading, justify="right")
    for thief in thieves:
        table.add_row(
            thief["worker"],
            "yes" if thief["held"] else "no",
            f"{100 * thief['encoder_busy_share']:.0f} %",
            f"{thief['patience_s']:.1f}",
            str(thief["at_most"]),
        )
    return [table]


def _table(title: str) -> Table:
    """With a column of workers: where there is little room, headings break between words, and names never."""
    table = Table(title=title, title_justify="left", box=box.SIMPLE, collapse_padding=True, pad_edge=False)
    table.add_column("worker", no_wrap=True)
    return table
