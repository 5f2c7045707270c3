"""Network namespaces as `ip netns` makes them: whether they can be had here, commands for them, and a way inside."""

import ctypes
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

CLONE_NEWNET = 0x40000000  # linux/sched.h

_libc = ctypes.CDLL(None, use_errno=True)


def obstacle() -> str | None:
    """Why no network of hosts can be made here; None if one can."""
    if os.geteuid() != 0:
        return "network namespaces are for root"
    if missing := [tool for tool in ("ip", "tc", "unshare", "nsenter") if shutil.which(tool) is None]:
        return f"{' and '.join(missing)} cannot be found (iproute2, util-linux)"
    name = f"chiasm-try-{os.getpid()}"
    made = subprocess.run(["ip", "netns", "add", name], capture_output=True, text=True, check=False)
    if made.returncode != 0:
        return f"ip netns: {made.stderr.strip()}"
    run("ip", "netns", "del", name)
    return None if os.access("/dev/net/tun", os.R_OK | os.W_OK) else "there is no /dev/net/tun"


def run(*command: str) -> None:
    """Run a tool to its end; what it has to say of a failure is in the error."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{' '.join(command)}: {done.stderr.strip()}"


@contextmanager
def inside(namespace: str) -> Iterator[None]:
    """This thread in another network namespace: sockets, threads and processes made meanwhile are and stay there."""
    here = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
    try:
        there = os.open(Path("/run/netns") / namespace, os.O_RDONLY)
        try:
            _enter(there)
        finally:
            os.close(there)
        try:
            yield
        finally:
            _enter(here)
    finally:
        os.close(here)


def _enter(descriptor: int) -> None:
    if _libc.setns(descriptor, CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), "setns")
