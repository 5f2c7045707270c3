"""Why a request could not get its embeddings: written by the connector, read by the engine's API server.

vLLM ends such a request as a plain internal error, in another process than the one that knows the reason. The two share
the engine's runtime folder, so the reason is a small file there, written before vLLM hears of the failure: whoever has
seen the error finds it.
"""

import json
import os
import re
from pathlib import Path
from typing import TypedDict

from chiasm.wire.settings import RUNTIME_VARIABLE

REMEMBERED = 1024
_REQUEST_ID = re.compile(r"[0-9A-Za-z_-]{1,64}")


class Failure(TypedDict):
    """One embedding that could not be had."""

    key: str
    code: str
    detail: str


def write_failures(runtime: Path, request: str, failures: list[Failure]) -> None:
    """Remember the failures of a request; the oldest requests are forgotten beyond `REMEMBERED`."""
    if not _REQUEST_ID.fullmatch(request):
        return  # not named by our gateway: nobody will ask
    folder = runtime / "failures"
    folder.mkdir(exist_ok=True)
    part = folder / f"{request}.part"
    part.write_text(json.dumps(failures))
    part.rename(folder / request)
    for stale in sorted(folder.iterdir(), key=lambda path: path.stat().st_mtime_ns)[:-REMEMBERED]:
        stale.unlink()


def forget_failures(runtime: Path, request: str) -> None:
    """A request begins anew at this engine: what became of its last attempt says nothing of this one."""
    if _REQUEST_ID.fullmatch(request):
        (runtime / "failures" / request).unlink(missing_ok=True)


def read_failures(request: str) -> list[Failure]:
    """The failures of a request in this engine, empty if there are none."""
    runtime = os.environ.get(RUNTIME_VARIABLE)
    if runtime is None or not _REQUEST_ID.fullmatch(request):
        return []
    try:
        failures: list[Failure] = json.loads((Path(runtime) / "failures" / request).read_text())
    except FileNotFoundError:
        return []
    return failures
