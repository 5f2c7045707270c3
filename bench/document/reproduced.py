"""`python -m bench.document.reproduced`: measure again what docs/benchmarks.md tells, and make it of what was found.

Command by command; each that has ended well leaves a file in a folder of the commit that was measured, so that whatever
was interrupted goes on where it stopped. What the commands themselves write does not make the tree another one.
"""

import hashlib
import json
import os
import shlex
import subprocess
import sys
import sysconfig
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import click
from rich.console import Console

from bench.document.pages import write
from bench.document.plan import HEADLINE, STEPS, Step
from bench.document.results import BadDocument, read_report
from bench.report import ROOT

WRITTEN = ("bench/results", "docs", "README.md", "chiasm/models/README.md")  # by benchmarks, and by the document

console = Console(highlight=False)


class StepFailed(Exception):
    """A command did not end well. The text names it, and what to do."""


@dataclass(frozen=True)
class Tree:
    """What is measured."""

    commit: str  # as reports name it
    digest: str = ""  # of how the tree differs from the commit, if it does

    @property
    def folder(self) -> str:
        """The name of its folder of what is done."""
        return self.commit + (f"-{self.digest}" if self.digest else "")


def tree_at(root: Path) -> Tree:
    """The commit of a checkout, or what $CHIASM_COMMIT says; `unknown` where neither tells."""
    if told := os.environ.get("CHIASM_COMMIT"):
        return Tree(told)
    if not (root / ".git").exists():
        return Tree("unknown")
    head = _git(root, "rev-parse", "HEAD").strip()
    changes = _git(root, "diff", "HEAD", "--", ".", *(f":(exclude){path}" for path in WRITTEN))
    return Tree(f"{head}-dirty", hashlib.sha256(changes.encode()).hexdigest()[:8]) if changes else Tree(head)


@dataclass(frozen=True)
class Reproduction:
    """A run of some steps over a checkout."""

    steps: Sequence[Step]
    root: Path
    state: Path  # of all commits
    tree: Tree
    programs: Path  # the folder that has `chiasm`

    @property
    def kept(self) -> Path:
        """Where it is noted what is done."""
        return self.state / self.tree.folder

    def left(self) -> list[Step]:
        """What is still to be done for this commit."""
        return [step for step in self.steps if not (self._note(step).exists() and self._has_result(step))]

    def run(self) -> None:
        """Do what is left, in order.

        Raises:
            StepFailed: a command did not end well; those after it have not begun.
        """
        left = self.left()
        if done := [step.name for step in self.steps if step not in left]:
            console.print(f"Done before, for this commit: {', '.join(done)}. To measure again, remove {self.kept}")
        for number, step in enumerate(left):
            minutes = sum(one.minutes for one in left[number:])
            console.rule(f"{number + 1} of {len(left)}: {step.name}, {step.minutes} minutes; {minutes} to the end")
            began = time.monotonic()
            self._run(step)
            took = (time.monotonic() - began) / 60
            self._note(step).write_text(json.dumps({"command": step.shown, "minutes": round(took, 1)}) + "\n")
            console.print(f"{step.name}: done in {took:.1f} minutes")

    def _run(self, step: Step) -> None:
        kept = self.kept / step.name
        kept.mkdir(parents=True, exist_ok=True)
        program, *arguments = shlex.split(step.command.format(kept=shlex.quote(str(kept.resolve()))))
        environment = {**os.environ, "CHIASM_COMMIT": self.tree.commit}
        try:
            process = subprocess.Popen([self.programs / program, *arguments], cwd=self.root, env=environment)
        except OSError as error:
            raise StepFailed(f"{program} could not be started: {error}. Cure: make install") from error
        try:
            ended = process.wait()
        except KeyboardInterrupt:
            process.wait()  # it has got the same signal, and has engines to end
            raise
        again = f"What is done is kept in {self.kept}: the same command goes on with {step.name}."
        if ended != 0:
            raise StepFailed(f"`{step.shown}` failed with exit code {ended}; what it says above is why. {again}")
        if not self._has_result(step):
            raise StepFailed(f"`{step.shown}` ended well, but left no report of this commit in {step.result}. {again}")

    def _note(self, step: Step) -> Path:
        return self.kept / f"{step.name}.json"

    def _has_result(self, step: Step) -> bool:
        """Its result is there, and of this commit: somebody may have taken it back meanwhile."""
        try:
            return read_report(self.root / step.result).commit == self.tree.commit
        except (OSError, BadDocument):
            return False


def _git(root: Path, *arguments: str) -> str:
    return subprocess.run(
        ["git", *arguments], cwd=root, capture_output=True, text=True, errors="replace", timeout=60, check=True
    ).stdout


@click.command()
@click.option("--all", "everything", is_flag=True, help="Every figure that needs no GPU, not only the headline ones.")
@click.option(
    "--state",
    default=Path("build/bench"),
    show_default=True,
    type=click.Path(file_okay=False, path_type=Path),
    help="Keep here what is done, so that an interrupted run goes on.",
)
def reproduced(everything: bool, state: Path) -> None:
    """Run the benchmarks of docs/benchmarks.md that have not been run at this commit, and make the document anew.

    Nothing else should run meanwhile.
    """
    programs = Path(sysconfig.get_path("scripts"))
    reproduction = Reproduction(STEPS if everything else HEADLINE, ROOT, state, tree_at(ROOT), programs)
    try:
        reproduction.run()
        written = write(ROOT)
    except (StepFailed, BadDocument, OSError) as error:
        sys.exit(str(error))
    except KeyboardInterrupt:
        sys.exit(f"Stopped. What is done is kept in {reproduction.kept}: the same command goes on from there.")
    told = ", ".join(str(path.relative_to(ROOT)) for path in written)
    console.print(f"Written of what was found: {told}" if told else "The document was up to date.")


if __name__ == "__main__":
    reproduced()
