"""`python -m bench.document`: write the pages that are made of the results, or tell whether they are up to date."""

import sys

import click

from bench.document.pages import stale, write
from bench.document.results import BadDocument
from bench.report import ROOT


@click.command()
@click.option("--check", is_flag=True, help="Write nothing; exit with 1 if a page is not what the results give.")
def document(check: bool) -> None:
    """Make docs/benchmarks.md and README's table of results from bench/results and the templates in bench/document."""
    try:
        found = list(stale(ROOT)) if check else write(ROOT)
    except (BadDocument, OSError) as error:
        sys.exit(str(error))
    for path in found:
        print(f"{path.relative_to(ROOT)} {'is not what the results give' if check else 'written'}")
    if check and found:
        sys.exit("Cure: python -m bench.document")


if __name__ == "__main__":
    document()
