"""A folder that a long benchmark writes as it goes, so that it can be resumed: one file for each finished point."""

import secrets
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import msgspec

from bench.load.answers import Answer
from bench.report import commit, machine, versions
from chiasm.kept_files import write_whole

SETTINGS = "settings.json"
POINT, NOTE = ".answers.json", ".note.json"  # what names of points' and of notes' files end with
NONCE = "nonce"
SPOILT = "why nothing here counts"


class Spoilt(RuntimeError):
    """What has been measured is not what it stands for; the message says why, and what to do."""


class OtherRun(ValueError):
    """The folder holds something else than this run; the message says what, and what to do."""


class Journal:
    """Points are named freely, e.g. `split 4 images, 2.5/s, round 3`. `settings` are all that decides what is measured,
    as JSON can hold it; commit, machine and versions, which do too, are added to them.

    `commit` is the one that measured.
    """

    def __init__(self, folder: Path, settings: Mapping[str, Any], to_read: bool = False) -> None:
        """Begin in an empty folder, which may not exist yet, or go on in one of the same settings.

        A run that is `to_read` is there already, and may be of another commit.

        Raises:
            OtherRun: see there.
            OSError: the folder cannot be read or written.
        """
        self._folder = folder
        ours = _as_kept({**settings, "commit": commit(), "machine": machine(), "versions": versions()})
        path = folder / SETTINGS
        if (why := self.noted(SPOILT)) is not None:
            raise OtherRun(f"{folder} is of a run that does not count: {why} Name an empty or new folder.")
        if path.exists():
            theirs = _settings_in(path)
            if to_read:
                ours["commit"] = theirs.get("commit")
            _must_be_same(folder, theirs, ours)
        elif to_read:
            raise OtherRun(f"{folder} holds no run of this benchmark. Name the folder that one was kept in.")
        elif folder.exists() and any(folder.iterdir()):
            raise OtherRun(f"{folder} holds files, but no run of this benchmark. Name an empty or new folder.")
        else:
            write_whole(path, msgspec.json.format(msgspec.json.encode(ours)))
        self.commit = str(ours["commit"])

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

    def note(self, name: str, value: Any) -> None:
        """Keep what has turned out to be so for the whole run, as JSON can hold it: anything but None.

        Raises:
            OtherRun: it was otherwise before.
        """
        before, now = self.noted(name), _as_kept(value)
        if before is None:
            self.keep(name, now)
        elif before != now:
            raise OtherRun(
                f"{self._folder} was begun where {name} was {before}, and now it is {now}: points of both must not be "
                "compared. Name another folder."
            )

    def keep(self, name: str, value: Any) -> None:
        """Keep what was found beside the answers of a point, in place of what an unfinished measurement had found."""
        write_whole(self._path(name, NOTE), msgspec.json.encode(value))

    def noted(self, name: str) -> Any:
        """What was noted or kept under that name, or None.

        Raises:
            OtherRun: its file is damaged.
        """
        path = self._path(name, NOTE)
        try:
            return msgspec.json.decode(path.read_bytes()) if path.exists() else None
        except msgspec.DecodeError as error:
            raise OtherRun(f"cannot read {path}: {error}. Name an empty or new folder.") from error

    @contextmanager
    def while_it_counts(self) -> Iterator[None]:
        """Around what is measured: if it turns out not to count, nobody goes on with this folder or makes figures of
        it.

        Raises:
            Spoilt: that was so.
        """
        try:
            yield
        except Spoilt as error:
            self.keep(SPOILT, str(error))
            raise

    @property
    def nonce(self) -> str:
        """A word that no other run has, for what must be new to a server that another run may have asked before."""
        if (kept := self.noted(NONCE)) is None:
            self.note(NONCE, kept := secrets.token_hex(8))
        return str(kept)

    def _path(self, name: str, ending: str = POINT) -> Path:
        return self._folder / (quote(name, safe=" ,+=()") + ending)


def _as_kept(value: Any) -> Any:
    """As it comes back: tuples become lists."""
    return msgspec.json.decode(msgspec.json.encode(value))


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
