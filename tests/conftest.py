"""What every test is held to: it leaves no process, no socket and no shared-memory segment behind."""

import ctypes
import os
import re
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ.setdefault("RAY_AUTH_MODE", "disabled")

PR_SET_CHILD_SUBREAPER = 36  # orphans of what tests start become ours, so that the check below sees them
ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)

OF_WHOLE_FILES = re.compile(r"^pytestmark = \[?\s*pytest\.mark\.(slow|engine|soak|gpu)\b", re.MULTILINE)
GRACE_S = 10.0  # a closed socket's thread and a killed process's entry may take a moment to go


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Files whose tests are all left out are not imported either: that takes longer than the quick tests themselves."""
    if collection_path.suffix != ".py":
        return None
    mark = OF_WHOLE_FILES.search(collection_path.read_text())
    return True if mark and f"not {mark[1]}" in config.option.markexpr else None


def _leftovers() -> set[str]:
    me = psutil.Process()
    # Beside other workers of `pytest -n` the segments of their tests come and go.
    alone = "PYTEST_XDIST_WORKER" not in os.environ
    found = {f"segment {entry.path}" for entry in os.scandir("/dev/shm")} if alone else set[str]()
    for child in me.children(recursive=True):
        try:
            if child.status() != psutil.STATUS_ZOMBIE:
                found.add(f"process {child.pid} {' '.join(child.cmdline())[:100]}")
        except psutil.NoSuchProcess:
            continue
    for connection in me.net_connections(kind="inet"):
        if connection.status == psutil.CONN_LISTEN:
            found.add(f"socket listening at {connection.laddr}")
    for connection in me.net_connections(kind="unix"):
        if connection.laddr:
            found.add(f"socket {connection.laddr}")
    return found


def _assert_gone(before: set[str]) -> None:
    deadline = time.monotonic() + GRACE_S
    while (left := _leftovers() - before) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not left, "left behind: " + "; ".join(sorted(left))


@pytest.fixture(scope="session", autouse=True)
def nothing_outlives_the_run() -> Iterator[None]:
    before = _leftovers()
    yield
    _assert_gone(before)


@pytest.fixture(scope="module", autouse=True)
def nothing_outlives_a_module(nothing_outlives_the_run: None) -> Iterator[None]:
    before = _leftovers()
    yield
    _assert_gone(before)


@pytest.fixture(autouse=True)
def nothing_left_behind(nothing_outlives_a_module: None, request: pytest.FixtureRequest) -> Iterator[None]:
    if request.node.get_closest_marker("engine"):
        yield  # engines belong to the module, and may be restarted in mid-test: the module's own check is theirs
        return
    before = _leftovers()
    yield
    _assert_gone(before)
