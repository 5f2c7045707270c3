"""`chiasm bench NAME`."""

import click


@click.group()
def bench() -> None:
    """Measure. Each benchmark prints its figures, and writes them to a file with --json."""
