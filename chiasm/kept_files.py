"""Small files of what was measured on this machine, kept from one start to the next.

They lie below $XDG_CACHE_HOME or ~/.cache. Whoever reads one must check it: it may be damaged, or of another version.
"""

import os
import tempfile
from pathlib import Path


def kept_folder(name: str) -> Path | None:
    """Where files of that kind are; None for a user without a home. It may not exist yet."""
    try:
        base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    except RuntimeError:
        return None
    return Path(base) / "chiasm" / name


def write_whole(path: Path, content: bytes) -> None:
    """Write a file, making its folder: who reads it meanwhile gets the old content or the new, never a part.

    Raises:
        OSError: it cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=path.parent, suffix=".part", delete=False) as part:
        part.write(content)
    Path(part.name).replace(path)
