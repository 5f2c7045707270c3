"""A program that a benchmark starts beside itself, which says when it serves, and where."""

import contextlib
import os
import re
import signal
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Sequence
from pathlib import Path

START_TIMEOUT_S = 900.0
STOP_TIMEOUT_S = 90.0
GRACE_S = 60.0  # that a guard gives a program to end by itself
GUARD = "chiasm.engine_guard"
RUNTIME_PREFIX = "chiasm-bench-"
TOLD_LINES = 40


class NotServing(RuntimeError):
    """Something did not come up; the message has what it said last."""


def start(command: Sequence[str]) -> subprocess.Popen[str]:
    """Run it in a process group of its own, with a pipe as its input that closes when we are gone."""
    pipe = subprocess.PIPE
    return subprocess.Popen(
        command, stdin=pipe, stdout=pipe, stderr=subprocess.STDOUT, text=True, start_new_session=True
    )


def guarded(command: Sequence[str], folder: str) -> list[str]:
    """The command under a guard, which ends all that it has started when our end of its input closes.

    `folder`, whose name begins with `RUNTIME_PREFIX`, is removed in the end.
    """
    guard = [sys.executable, "-m", GUARD, "--runtime", folder, "--grace", str(GRACE_S)]
    return [*guard, "--", *command]


def guards_an_engine(words: Sequence[str]) -> bool:
    """Whether this is the command line of a guard, but not of one that `guarded` has made."""
    if GUARD not in words:
        return False
    return not Path(words[words.index("--runtime") + 1]).name.startswith(RUNTIME_PREFIX)


class Program:
    """A running, or starting, program that prints `ready: URL/v1` once it serves."""

    def __init__(self, process: subprocess.Popen[str], name: str) -> None:
        self.name = name
        self._process = process
        self._said: deque[str] = deque(maxlen=TOLD_LINES)
        self._settled = threading.Event()
        self._url: str | None = None
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._listener.start()

    def _listen(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._said.append(line)
            if found := re.search(r"ready: (http://\S+)/v1", line):
                self._url = found.group(1)
                self._settled.set()
        self._settled.set()

    def wait_ready(self) -> None:
        """Return when it serves.

        Raises:
            NotServing: it does not within `START_TIMEOUT_S`.
        """
        self._settled.wait(START_TIMEOUT_S)
        if self._url is None:
            raise NotServing(f"{self.name} did not come up. It said:\n" + "".join(self._said))

    @property
    def pid(self) -> int:
        """Of the process that was started."""
        return self._process.pid

    @property
    def url(self) -> str:
        """Where it serves, once it is ready."""
        assert self._url is not None
        return self._url

    def stop(self) -> None:
        """End it as Ctrl-C does; its whole group of processes is killed if it has not ended in `STOP_TIMEOUT_S`."""
        if self._process.stdin is not None:
            with contextlib.suppress(OSError):
                self._process.stdin.close()
        with contextlib.suppress(ProcessLookupError):  # it has ended by itself
            os.killpg(self._process.pid, signal.SIGINT)
        try:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(STOP_TIMEOUT_S)
        finally:
            if self._process.poll() is None:
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._listener.join(STOP_TIMEOUT_S)
            if not self._listener.is_alive() and self._process.stdout is not None:
                self._process.stdout.close()
