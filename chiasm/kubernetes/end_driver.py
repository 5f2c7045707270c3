"""What the gateway's pod does before it ends: `chiasm serve`, which the launcher started there, is told to stop, and
waited for, so that answers under way come to their ends.

    python -m chiasm.kubernetes.end_driver
"""

import contextlib
from collections.abc import Sequence
from itertools import pairwise
from pathlib import PurePath

import psutil

from chiasm.kubernetes.ray_cluster import CONFIG_FILE


def is_driver(command: Sequence[str]) -> bool:
    """Whether this is how a process is called that serves the pod's cluster; the shell that Ray has started it with is
    not one."""
    serves = any(PurePath(program).name == "chiasm" and verb == "serve" for program, verb in pairwise(command))
    return serves and CONFIG_FILE in command


def main() -> None:
    """Returns when the driver is gone. Kubernetes sees to it that this does not take for ever."""
    drivers = [each for each in psutil.process_iter(["cmdline"]) if is_driver(each.info["cmdline"] or [])]
    for driver in drivers:
        with contextlib.suppress(psutil.NoSuchProcess):
            driver.terminate()
    psutil.wait_procs(drivers)


if __name__ == "__main__":
    main()
