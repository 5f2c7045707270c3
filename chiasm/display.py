"""What people see while engines start, a live table on a terminal and a line for each change elsewhere; and how wide
tables are.
"""

import sys
from collections.abc import Sequence
from types import TracebackType
from typing import Protocol, Self

from rich.console import Console
from rich.live import Live
from rich.spinner import Spinner
from rich.table import Table

PIPED_WIDTH = 150


def table_console(*, soft_wrap: bool = False) -> Console:
    """A console as wide as the terminal. In a pipe or a file, which have no width, it is wide enough for our tables."""
    return Console(highlight=False, soft_wrap=soft_wrap, width=None if sys.stdout.isatty() else PIPED_WIDTH)


class Starting(Protocol):
    """One thing that starts."""

    @property
    def name(self) -> str:
        """Who."""

    @property
    def stage(self) -> str:
        """What it is doing."""

    @property
    def seconds(self) -> float:
        """How long it has been starting."""

    @property
    def ready(self) -> bool:
        """Whether it has come to its end."""


class StartDisplay:
    """A context in which `show` may be called as often as one likes."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._live = Live(console=console, refresh_per_second=8) if console.is_terminal else None
        self._spinner = Spinner("dots")
        self._shown: dict[str, str] = {}
        self._took: dict[str, float] = {}

    def __enter__(self) -> Self:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()

    def show(self, starting: Sequence[Starting]) -> None:
        """Show how far each has come."""
        for one in starting:
            if one.ready:
                self._took.setdefault(one.name, one.seconds)
        if self._live is not None:
            self._live.update(self._table(starting))
            return
        for one in starting:
            if self._shown.get(one.name) != one.stage:
                self._shown[one.name] = one.stage
                self._console.print(f"  {one.name}: {one.stage} ({self._took.get(one.name, one.seconds):.0f} s)")

    def _table(self, starting: Sequence[Starting]) -> Table:
        table = Table.grid(padding=(0, 2))
        for one in starting:
            mark = "[green]✓[/]" if one.ready else self._spinner
            seconds = self._took.get(one.name, one.seconds)
            table.add_row(" ", mark, one.name, one.stage, f"{seconds:.0f} s")
        return table
