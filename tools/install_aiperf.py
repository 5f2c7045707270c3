"""Install AIPerf into a virtual environment of its own: `.venv/bin/python tools/install_aiperf.py FOLDER`, as
`make aiperf` does.

AIPerf asks for older versions of packages that Chiasm uses (pyzmq above all), so the two cannot share one. Standard
library and uv only, like the installer that this borrows from.
"""

import sys
from pathlib import Path

from install import run, say, use_pip_settings

REQUIREMENT = "aiperf==0.13.*"


def main() -> None:
    """Create the environment in the folder named on the command line, and install AIPerf there."""
    folder = Path(sys.argv[1])
    say(f"installing AIPerf into {folder}")
    use_pip_settings(sys.executable)
    run([sys.executable, "-m", "venv", "--without-pip", str(folder)])
    python = str(folder.resolve() / "bin" / "python")
    run([sys.executable, "-m", "uv", "pip", "install", "--python", python, REQUIREMENT])


if __name__ == "__main__":
    main()
