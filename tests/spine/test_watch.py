"""What `chiasm serve` says of a running cluster."""

from typing import Any

import pytest

import chiasm.cli
from chiasm.member import RESTARTED, MemberProgress
from chiasm.supervisor import LEAVING


class Told:
    """A cluster whose reports are known beforehand."""

    def __init__(self, *reports: MemberProgress) -> None:
        self._reports = list(reports)

    def progress(self) -> list[Any]:
        if not self._reports:
            raise KeyboardInterrupt
        return [self._reports.pop(0)]


def report(
    ready: bool, fallback: str = "", stage: str = "ready", error: str | None = "its node is gone"
) -> MemberProgress:
    return MemberProgress("encoder-0", stage, 1.0, ready, 0, None if ready else error, fallback)


def test_a_worker_that_took_a_fallback_is_warned_of_once_for_each_place(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(chiasm.cli, "WATCH_S", 0.0)
    cluster = Told(
        report(True),
        report(False, stage="being restarted by Ray"),
        report(False, "on spare", stage="loading weights"),
        report(True, "on spare"),
        report(True, "on spare"),
        report(True),
        report(True, "on spare"),
    )
    with pytest.raises(KeyboardInterrupt):
        chiasm.cli.watch(cluster)
    assert capsys.readouterr().out.splitlines() == [
        "encoder-0 is down, and being started again: its node is gone",
        "warning: encoder-0: on spare",
        "encoder-0 is back",
        "warning: encoder-0: on spare",
    ]


def test_a_worker_that_stays_down_is_told_of_again_when_there_is_another_reason(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(chiasm.cli, "WATCH_S", 0.0)
    cluster = Told(
        report(True),
        report(False, stage=LEAVING, error="its node is to go"),
        report(False, stage=RESTARTED, error="the actor is unavailable"),
        report(False, stage="loading weights", error=None),
        report(False, stage="waiting to start again", error="no such GPU\n  a line"),
        report(False, stage="waiting to start again", error="no such GPU\n  another line"),
        report(True),
    )
    with pytest.raises(KeyboardInterrupt):
        chiasm.cli.watch(cluster)
    assert capsys.readouterr().out.splitlines() == [
        "encoder-0 leaves, to start again when its node ends: its node is to go",
        "encoder-0 is still down: no such GPU",
        "  a line",
        "encoder-0 is back",
    ]
