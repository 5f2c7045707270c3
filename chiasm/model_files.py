"""A model's folder, told from others by its files: whether all hosts of a cluster have the same."""

import os
from pathlib import Path

from blake3 import blake3

SAMPLE_BYTES = 1 << 20
_SUFFIXES = (".json", ".safetensors", ".bin", ".pt", ".jinja", ".txt", ".model", ".tiktoken", ".py")


def files_digest(folder: Path) -> str:
    """Equal for equal files, wherever they lie. What is in folders of it does not count.

    Of large files only the size, the beginning and the end are read: enough to tell checkpoints apart in a moment.

    Raises:
        OSError: a file cannot be read.
    """
    digest = blake3()
    for path in sorted(folder.iterdir()):
        if path.suffix not in _SUFFIXES:
            continue
        size = path.stat().st_size
        digest.update(f"{path.name}\0{size}\0".encode())
        with path.open("rb") as file:
            digest.update(file.read(SAMPLE_BYTES))
            file.seek(max(0, size - SAMPLE_BYTES), os.SEEK_SET)
            digest.update(file.read(SAMPLE_BYTES))
    return digest.hexdigest(16)


def fault_of(model: str, digest: str) -> str | None:
    """What is wrong with this host's copy of a model whose folder has that `files_digest`; None if it is the same.

    `digest` is empty for a model that has no folder: the hub sees to that.
    """
    if not digest:
        return None
    try:
        found = files_digest(Path(model))
    except OSError as error:
        return f"there is no {model} on this host to be read ({error.strerror}). Put it at this path on every host"
    if found != digest:
        return f"{model} on this host is not what it is where `chiasm serve` runs. Copy it anew"
    return None
