"""The note that the connector leaves for the engine's API server."""

from pathlib import Path

import pytest

from chiasm.wire import failures
from chiasm.wire.failures import Failure, forget_failures, read_failures, write_failures
from chiasm.wire.settings import RUNTIME_VARIABLE

LOST = Failure(key="k", code="missing", detail="evicted")


@pytest.fixture
def runtime(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(RUNTIME_VARIABLE, str(tmp_path))
    return tmp_path


def test_what_was_written_is_read_and_nothing_else(runtime: Path) -> None:
    write_failures(runtime, "request-1", [LOST])
    assert read_failures("request-1") == [LOST]
    assert read_failures("request-2") == []


def test_another_attempt_begins_with_a_clean_slate(runtime: Path) -> None:
    write_failures(runtime, "request-1", [LOST])
    write_failures(runtime, "request-2", [LOST])
    forget_failures(runtime, "request-1")
    forget_failures(runtime, "request-3")
    assert [bool(read_failures(f"request-{number}")) for number in (1, 2)] == [False, True]


@pytest.mark.parametrize("request_id", ["../secret", "a/b", "", "x" * 65, ".part"])
def test_a_request_id_is_never_a_path(runtime: Path, request_id: str) -> None:
    (runtime / "secret").write_text("[]")
    write_failures(runtime, request_id, [LOST])
    assert read_failures(request_id) == []
    assert [path.name for path in runtime.iterdir()] == ["secret"]


def test_the_oldest_are_forgotten(runtime: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(failures, "REMEMBERED", 3)
    for number in range(5):
        write_failures(runtime, f"request-{number}", [LOST])
    assert [bool(read_failures(f"request-{number}")) for number in range(5)] == [False, False, True, True, True]


def test_outside_of_an_engine_there_are_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(RUNTIME_VARIABLE, raising=False)
    assert read_failures("request-1") == []
