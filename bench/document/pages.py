"""The pages that are made of the results: docs/benchmarks.md, and the table in README.md."""

from collections.abc import Mapping
from pathlib import Path

from bench.document.results import FOLDER, BadDocument, Report, read_reports
from bench.document.template import Template

BEGIN, END = "<!-- results: python -m bench.document -->", "<!-- end of the results -->"  # in README.md
TEMPLATES = Path("bench/document")


def pages(root: Path) -> dict[Path, str]:
    """What each page of the checkout at `root` has to be.

    Raises:
        BadDocument: the results do not have what a template names, or README.md has no place for its table.
        OSError: a template or README.md cannot be read.
    """
    reports = read_reports(root / FOLDER)
    readme = root / "README.md"
    return {
        root / "docs" / "benchmarks.md": _filled(root, "benchmarks.in.md", reports, root / "docs"),
        readme: _between_marks(readme, _filled(root, "readme.in.md", reports, root)),
    }


def stale(root: Path) -> dict[Path, str]:
    """The pages that are not what the results give, and what they have to be.

    Raises:
        BadDocument, OSError: as `pages`.
    """
    return {path: text for path, text in pages(root).items() if not path.exists() or path.read_text() != text}


def write(root: Path) -> list[Path]:
    """Write those that are not what the results give, and return which.

    Raises:
        BadDocument, OSError: as `pages`; or one cannot be written.
    """
    changed = stale(root)
    for path, text in changed.items():
        path.write_text(text)
    return list(changed)


def _filled(root: Path, name: str, reports: Mapping[str, Report], folder: Path) -> str:
    path = root / TEMPLATES / name
    try:
        return Template(path.read_text(), reports, folder).filled()
    except BadDocument as error:
        raise BadDocument(f"{path.relative_to(root)}: {error}") from error


def _between_marks(path: Path, table: str) -> str:
    before, begin, rest = path.read_text().partition(BEGIN)
    _, end, after = rest.partition(END)
    if not end:
        raise BadDocument(f"{path.name} has no lines {BEGIN} and {END} to put the results between")
    return f"{before}{begin}\n\n{table.strip()}\n\n{end}{after}"
