"""`--json FILE`, which every benchmark has."""

from pathlib import Path
from typing import Any

import click


class WritableFile(click.Path):
    """A file that can be written: one that cannot is refused at once, and not after an hour of measuring."""

    def __init__(self) -> None:
        super().__init__(dir_okay=False, path_type=Path)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        """Its path; the folders that it lies in are there afterwards."""
        path = Path(str(super().convert(value, param, ctx)))
        there = path.exists()
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.open("a").close()
            if not there:
                path.unlink()
        except OSError as error:
            self.fail(f"cannot write {path}: {error.strerror}", param, ctx)
        return path


json_option = click.option("--json", "json_file", type=WritableFile(), help="Write the figures here.")
