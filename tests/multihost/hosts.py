"""Hosts as bare metal has them, each in namespaces of its own: a name, an address, processes, shared memory.

    unshare ── init ──┬── `ray start --block`, again whenever it ends: as a unit of systemd with Restart=always
                      └── whatever is started here later (`Host.start`)

`/tmp` is shared but for `/tmp/ray`, so the installation, the model and files of a test are at the same place on all.
"""

import os
import secrets
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
from namespaces import inside
from network import Network

INIT = """
echo "$0" > /proc/sys/kernel/hostname
mount -t tmpfs -o size=4g tmpfs /dev/shm
mkdir -p /tmp/ray
mount -t tmpfs tmpfs /tmp/ray
while :; do "$@" || true; sleep 1; done
"""
TOKEN = secrets.token_hex(32)


class Host:
    """One that is up."""

    def __init__(self, address: str, init: psutil.Process) -> None:
        self.address = address
        self._init = init

    def start(self, *command: str) -> "subprocess.Popen[str]":
        """Start a command here; what it prints can be read."""
        own = ["--mount", "--uts", "--ipc", "--net", "--pid"]
        return subprocess.Popen(
            ["nsenter", "--target", str(self._init.pid), *own, "--", *command],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=environment(),
            start_new_session=True,
        )

    def run(self, *command: str) -> str:
        """What a command prints here."""
        with self.start(*command) as process:
            said = process.communicate()[0]
        assert process.returncode == 0, said
        return said

    def path(self, path: str) -> Path:
        """A path of this host, for the tests."""
        return Path(f"/proc/{self._init.pid}/root") / path.removeprefix("/")

    def engines(self) -> list[int]:
        """The processes that serve engines here, as the tests see their ids."""
        found = []
        for process in self._init.children(recursive=True):
            with suppress(psutil.NoSuchProcess):  # it has just ended
                command = process.cmdline()
                if "vllm.entrypoints.openai.api_server" in command and "chiasm.engine_guard" not in command:
                    found.append(process.pid)
        return found


def environment() -> dict[str, str]:
    """Of everything on the hosts: none of Ray's or of temporary folders but what is set here."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("RAY_") and name != "TMPDIR"}
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    token = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": TOKEN}
    return {**kept, **token, "PATH": path, "RAY_USAGE_STATS_ENABLED": "0", "RAY_worker_niceness": "0"}


@contextmanager
def host(network: Network, name: str, ray_start: Sequence[str], log: Path) -> Iterator[Host]:
    """A host of the network on which that command runs again and again; what it prints goes to `log`."""
    own = ["--mount", "--uts", "--ipc", "--pid", "--fork", "--mount-proc", "--kill-child"]
    with inside(network.namespace(name)), log.open("w") as output:
        process = subprocess.Popen(
            ["unshare", *own, "sh", "-ec", INIT, name, *ray_start],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=environment(),
        )
    init = _only_child(process.pid)
    try:
        yield Host(network.addresses[name], init)
    finally:
        init.kill()  # and with it everything here
        process.wait()


def _only_child(pid: int) -> psutil.Process:
    parent = psutil.Process(pid)
    while True:
        if children := parent.children():
            return children[0]
        assert parent.status() != psutil.STATUS_ZOMBIE, "unshare has ended"
