"""What benchmarks have left in `bench/results`: one JSON each, as `bench.report` writes it."""

from pathlib import Path
from typing import Any

import msgspec

FOLDER = Path("bench/results")  # below the checkout


class BadDocument(Exception):
    """The document cannot be made from these results. The text names the place, the cause and the cure."""


class Report(msgspec.Struct, frozen=True):
    """One benchmark's figures, and where they were taken."""

    name: str
    commit: str
    machine: dict[str, Any]
    versions: dict[str, str]
    seeds: list[int]
    command: str
    headline: dict[str, int | float]
    series: list[dict[str, Any]]
    figures_commit: str | None = None  # where another one made figures of what that commit had measured


def read_report(path: Path) -> Report:
    """One file.

    Raises:
        BadDocument: it is not what `bench.report` writes.
    """
    try:
        return msgspec.json.decode(path.read_bytes(), type=Report)
    except msgspec.DecodeError as error:
        raise BadDocument(f"{path} is not a benchmark's report: {error}. Cure: measure it again.") from error


def read_reports(folder: Path) -> dict[str, Report]:
    """All of a folder, by the names of their files without `.json`.

    Raises:
        BadDocument: one of them is no report.
    """
    return {path.stem: read_report(path) for path in sorted(folder.glob("*.json"))}
