"""A folder that a long benchmark writes as it goes, so that it can be resumed: one file for each finished point."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

import msgspec

from bench.load.answers import Answer
from chiasm.kept_files import write_whole

SETTINGS = "settings.json"
POINT = ".answers.json"  # what names of points' files end with


class OtherRun(ValueError):
    """The folder holds something else than this run; the message says what, and what to do."""


class Journal:
    """Points are named freely, e.g. `split 4 images, 2.5/s, round 3`. `settings` are all that decides what is measured,
    as JSON can hold it.
    """

    def __init__(self, folder: Path, settings: Mapping[str, Any]) -> None:
        """Begin in an empty folder, which may not exist yet, or go on in one of the same settings.

        Raises:
            OtherRun: see there.
            OSError: the folder cannot be read or written.
        """
        self._folder = folder
        ours = msgspec.json.decode(msgspec.json.encode(dict(settings)))  # tuples become lists, as they come back
        path = folder / SETTINGS
        if path.exists():
            _must_be_same(folder, _settings_in(path), ours)
        elif folder.exists() and any(folder.iterdir()):
            raise OtherRun(f"{folder} holds files, but no run of this benchmark. Name an empty or new folder.")
        else:
            write_whole(path, msgspec.json.format(msgspec.json.encode(ours)))

    def get(self, point: str) -> list[Answer] | None:
        """The answers at that point; None: it is not finished.

        Raises:
            OtherRun: its file is of another version, or damaged.
        """
        path = self._path(point)
        if not path.exists():
            return None
        try:
            return msgspec.json.decode(path.read_bytes(), type=list[Answer])
        except msgspec.DecodeError as error:
            raise OtherRun(f"cannot read {path}: {error}. Remove it, and its point is measured again.") from error

    def put(self, point: str, answers: Sequence[Answer]) -> None:
        """That point is finished. Who is interrupted meanwhile leaves it unfinished, never half written."""
        write_whole(self._path(point), msgspec.json.encode(list(answers)))

    def _path(self, point: str) -> Path:
        return self._folder / (quote(point, safe=" ,+=()") + POINT)


def _settings_in(path: Path) -> dict[str, Any]:
    try:
        return msgspec.json.decode(path.read_bytes(), type=dict[str, Any])
    except msgspec.DecodeError as error:
        raise OtherRun(f"cannot read {path}: {error}. Name an empty or new folder.") from error


def _must_be_same(folder: Path, theirs: Mapping[str, Any], ours: Mapping[str, Any]) -> None:
    names = sorted({*theirs, *ours})
    differ = [
        f"{name} ({theirs.get(name, 'not set')} there, {ours.get(name, 'not set')} now)"
        for name in names
        if theirs.get(name) != ours.get(name) or (name in theirs) != (name in ours)
    ]
    if differ:
        raise OtherRun(
            f"{folder} is of a run with other settings: {', '.join(differ)}. Give them again, or name another folder."
        )
