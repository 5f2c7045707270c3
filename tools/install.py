"""Install Chiasm into a virtual environment: `python3 tools/install.py FOLDER`, as `make install` does.

Decides what the user should not have to: the GPU or the CPU build of vLLM, and where the CPU build of torch comes from
(the package indexes that pip is configured with if they carry it, else PyTorch's own). uv does the work, in a
fraction of pip's time, and is told of pip's configuration, which it would not read by itself. Standard library only.
"""

import ast
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

TORCH_CPU_INDEX = "https://download.pytorch.org/whl/cpu"
PYTHONS = ((3, 11), (3, 12))
ROOT = Path(__file__).resolve().parent.parent


def main() -> None:
    """Create the environment in the folder named on the command line, and install everything."""
    if sys.version_info[:2] not in PYTHONS or not sys.platform.startswith("linux"):
        found = f"{sys.platform}, Python {sys.version.split()[0]}"
        sys.exit(f"Chiasm needs Linux and Python 3.11 or 3.12; this is {found}. Cure: make install PYTHON=python3.11")
    folder = Path(sys.argv[1])
    begun = time.monotonic()
    extra = os.environ.get("ACCELERATOR") or ("gpu" if has_gpu() else "cpu")
    say(f"creating {folder}")
    run([sys.executable, "-m", "venv", str(folder)])
    python = str(folder.resolve() / "bin" / "python")
    say("installing uv")
    run([python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "uv>=0.9"])
    use_pip_settings(python)
    install = [python, "-m", "uv", "pip", "install", "--python", python]
    target = ["-e", f"{ROOT}[{extra},dev]"]
    if extra == "cpu":
        say("looking for the CPU build of torch")
        if subprocess.run([*install, "--dry-run", "--quiet", *target], capture_output=True, check=False).returncode:
            say(f"the configured package indexes do not carry it: adding {TORCH_CPU_INDEX}")
            extra_indexes = f"{os.environ.get('UV_EXTRA_INDEX_URL', '')} {TORCH_CPU_INDEX}"
            os.environ.update(UV_EXTRA_INDEX_URL=extra_indexes.strip(), UV_INDEX_STRATEGY="unsafe-best-match")
    say(f"installing Chiasm and the {extra.upper()} build of vLLM (a few hundred packages' worth of downloads)")
    # Compiled now, once: an engine is three processes, and all of them import thousands of modules when they start.
    run([*install, "--compile-bytecode", *target])
    say(f"installed in {time.monotonic() - begun:.0f} s")


def has_gpu() -> bool:
    """Whether this machine has an NVIDIA GPU with a working driver."""
    if shutil.which("nvidia-smi") is None:
        return False
    return subprocess.run(["nvidia-smi", "-L"], capture_output=True, check=False).returncode == 0


def use_pip_settings(python: str) -> None:
    """Let uv do as pip is configured to, in this process and those that it starts."""
    settings = pip_settings(python)
    if "cert" in settings:
        os.environ.setdefault("SSL_CERT_FILE", settings["cert"][0])
    os.environ.update(index_variables(settings))


def pip_settings(python: str) -> dict[str, list[str]]:
    """What pip is configured with, from its files and its environment variables, by option name."""
    listing = subprocess.run([python, "-m", "pip", "config", "list"], capture_output=True, text=True, check=True).stdout
    settings: dict[str, list[str]] = {}
    for line in listing.splitlines():
        name, _, value = line.partition("=")
        option = name.split(".")[-1]
        settings.setdefault(option, []).extend(str(ast.literal_eval(value)).split())
    return settings


def index_variables(settings: dict[str, list[str]]) -> dict[str, str]:
    """pip's settings as uv's environment variables: an index's address may hold a password, so it is no argument."""
    names = {
        "index-url": ("UV_INDEX_URL", " "),
        "extra-index-url": ("UV_EXTRA_INDEX_URL", " "),
        "find-links": ("UV_FIND_LINKS", ","),
    }
    variables = {
        name: separator.join(settings[option]) for option, (name, separator) in names.items() if option in settings
    }
    if "extra-index-url" in settings:
        variables["UV_INDEX_STRATEGY"] = "unsafe-best-match"  # pip's way: the best version of all indexes
    return variables


def say(what: str) -> None:
    """One line of progress."""
    print(f"==> {what}", flush=True)


def run(command: list[str]) -> None:
    """Run a command with its output shown; end with its exit code if it fails."""
    code = subprocess.run(command, check=False).returncode
    if code:
        sys.exit(f"failed with exit code {code}: {' '.join(command)}")


if __name__ == "__main__":
    main()
