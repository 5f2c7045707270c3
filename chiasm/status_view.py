"""The answer of `/v1/chiasm/status` as tables for a terminal."""

from typing import Any

from rich.table import Table


def status_tables(status: dict[str, Any]) -> list[Table]:
    """One table of workers, one of counts."""
    workers = Table(title="ready" if status["ready"] else "not ready", title_justify="left")
    for heading in ("worker", "role", "node", "running", "withheld", "slots", "KV tokens", "tokens/s", "embeddings"):
        workers.add_column(heading, justify="left" if heading in ("worker", "role", "node") else "right")
    for worker in status["workers"]:
        workers.add_row(
            worker["worker"],
            worker["role"],
            worker["node"],
            str(worker["running"]),
            str(worker["waiting"]),
            str(worker["slots"]),
            str(worker["kv_tokens"] or "–"),
            f"{worker['tokens_per_s']:.0f}",
            str(worker["held"]) if worker["role"] == "encoder" else "–",
        )
    counts = Table(show_header=False)
    for name in ("encoding", "withheld", "decoding"):
        counts.add_row(f"requests {name} now", str(status[name]))
    for name, value in sorted(status["counters"].items()):
        counts.add_row(name.replace("_", " "), str(value))
    return [workers, counts]
