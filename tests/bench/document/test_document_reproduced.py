"""Steps over a checkout, whose `chiasm` is a script that writes down what it is asked and does as it is told."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
from click.testing import CliRunner

from bench.document.plan import HEADLINE, Step
from bench.document.plan import STEPS as ALL_STEPS
from bench.document.reproduced import Reproduction, StepFailed, Tree, reproduced, tree_at

pytestmark = pytest.mark.slow

STEPS = (
    Step("one", "chiasm bench one --json results/one.json", minutes=5),
    Step("two", "chiasm bench two --json results/two.json --resume {kept}", minutes=7),
    Step("three", "chiasm bench three --json results/three.json", minutes=11),
)
CHIASM = """#!/bin/sh
echo "$*" >> asked
[ -e "$2-fails" ] && exit 3
[ -e "$2-writes-nothing" ] && exit 0
cat > "$4" <<END
{"name": "$2", "commit": "$CHIASM_COMMIT", "machine": {}, "versions": {}, "seeds": [], "command": "", "headline": {}, "series": []}
END
"""  # noqa: E501


@dataclass(frozen=True)
class Checkout:
    root: Path

    def run(self, commit: str = "abc", digest: str = "") -> None:
        Reproduction(STEPS, self.root, self.root / "state", Tree(commit, digest), self.root / "programs").run()

    def asked(self) -> list[str]:
        """The benchmarks that ran since the last look."""
        note = self.root / "asked"
        names = [line.split()[1] for line in note.read_text().splitlines()] if note.exists() else []
        note.unlink(missing_ok=True)
        return names


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    for folder in ("programs", "results"):
        (tmp_path / folder).mkdir()
    program = tmp_path / "programs" / "chiasm"
    program.write_text(CHIASM)
    program.chmod(0o755)
    return Checkout(tmp_path)


def test_every_step_runs_once_for_a_commit(checkout: Checkout, capsys: pytest.CaptureFixture[str]) -> None:
    checkout.run()
    assert checkout.asked() == ["one", "two", "three"]
    told = capsys.readouterr().out
    for line in ("1 of 3: one, 5 minutes; 23 to the end", "3 of 3: three, 11 minutes; 11 to the end"):
        assert line in told
    checkout.run()
    assert checkout.asked() == []
    assert "Done before, for this commit: one, two, three" in capsys.readouterr().out
    checkout.run("def")
    assert checkout.asked() == ["one", "two", "three"]


def test_reports_are_of_the_commit_that_is_measured(checkout: Checkout) -> None:
    checkout.run("abc-dirty", "12345678")
    assert json.loads((checkout.root / "results" / "one.json").read_text())["commit"] == "abc-dirty"


def test_a_failure_stops_it_and_the_same_command_goes_on_from_there(
    checkout: Checkout, capsys: pytest.CaptureFixture[str]
) -> None:
    failing = checkout.root / "two-fails"
    failing.touch()
    with pytest.raises(StepFailed) as failed:
        checkout.run()
    assert checkout.asked() == ["one", "two"]
    assert str(failed.value).startswith("`chiasm bench two --json results/two.json` failed with exit code 3; ")
    assert str(checkout.root / "state" / "abc") in str(failed.value)
    failing.unlink()
    capsys.readouterr()
    checkout.run()
    assert checkout.asked() == ["two", "three"]
    assert "1 of 2: two, 7 minutes; 18 to the end" in capsys.readouterr().out


def test_a_step_without_a_report_has_not_ended_well(checkout: Checkout) -> None:
    (checkout.root / "three-writes-nothing").touch()
    with pytest.raises(StepFailed, match=r"left no report of this commit in results/three\.json"):
        checkout.run()
    (checkout.root / "three-writes-nothing").unlink()
    checkout.asked()
    checkout.run()
    assert checkout.asked() == ["three"]


def test_a_report_that_was_taken_back_is_made_again(checkout: Checkout) -> None:
    checkout.run()
    checkout.asked()
    report = checkout.root / "results" / "one.json"
    report.write_text(report.read_text().replace("abc", "before"))
    (checkout.root / "results" / "two.json").unlink()
    checkout.run()
    assert checkout.asked() == ["one", "two"]


def test_a_report_of_this_commit_is_not_enough(checkout: Checkout) -> None:
    """Its plot or page may be missing: the command failed after it."""
    (checkout.root / "one-fails").touch()
    (checkout.root / "results" / "one.json").write_text(
        json.dumps({"name": "one", "commit": "abc", "command": "", "series": []}).replace(
            "}", ', "machine": {}, "versions": {}, "seeds": [], "headline": {}}'
        )
    )
    with pytest.raises(StepFailed):
        checkout.run()


def test_a_step_finds_its_folder_again(checkout: Checkout) -> None:
    checkout.run()
    [two] = [line.split() for line in (checkout.root / "asked").read_text().splitlines() if " two " in line]
    kept = Path(two[two.index("--resume") + 1])
    assert kept.is_dir()
    assert kept.is_relative_to(checkout.root / "state" / "abc")


def test_without_the_program_the_cure_is_named(checkout: Checkout) -> None:
    (checkout.root / "programs" / "chiasm").unlink()
    with pytest.raises(StepFailed, match=r"chiasm could not be started: .+ Cure: make install"):
        checkout.run()


INTERRUPTED = """
import sys
from pathlib import Path
from bench.document.plan import HEADLINE, Step
from bench.document.plan import STEPS as ALL_STEPS
from bench.document.reproduced import Reproduction, Tree

root = Path(sys.argv[1])
steps = [Step("one", "chiasm bench one --json results/one.json", minutes=5)]
try:
    Reproduction(steps, root, root / "state", Tree("abc"), root / "programs").run()
except KeyboardInterrupt:
    sys.exit("ended before" if (root / "ended").exists() else "left alone")
"""
ENDS_SLOWLY = """#!/bin/sh
trap 'sleep 0.5; echo > ended; exit 130' INT
echo > begun
while :; do sleep 0.05; done
"""


def test_whoever_is_interrupted_waits_for_the_command_to_end(checkout: Checkout) -> None:
    """It has engines to stop; half a second is more than `subprocess.run` would leave it."""
    (checkout.root / "programs" / "chiasm").write_text(ENDS_SLOWLY)
    running = subprocess.Popen(
        [sys.executable, "-c", INTERRUPTED, str(checkout.root)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        while not (checkout.root / "begun").exists():
            assert running.poll() is None
            time.sleep(0.02)
        os.killpg(running.pid, signal.SIGINT)  # as a terminal does
        _, told = running.communicate(timeout=30)
    finally:
        running.kill()
        running.wait()
    assert told.strip() == "ended before"


@pytest.mark.parametrize(("options", "steps"), [([], HEADLINE), (["--all"], ALL_STEPS)])
def test_what_is_run_without_options_and_with_all(
    options: list[str], steps: Sequence[Step], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran: list[Step] = []
    monkeypatch.setattr(Reproduction, "run", lambda self: ran.extend(self.steps))
    monkeypatch.setattr("bench.document.reproduced.write", lambda root: [root / "docs" / "benchmarks.md"])
    outcome = CliRunner().invoke(reproduced, [*options, "--state", str(tmp_path)])
    assert (outcome.exit_code, ran) == (0, list(steps))


def test_a_failure_is_told_and_makes_no_document(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(self: Reproduction) -> None:
        raise StepFailed("it failed")

    def write(root: Path) -> list[Path]:
        raise AssertionError("a document was made")

    monkeypatch.setattr(Reproduction, "run", fail)
    monkeypatch.setattr("bench.document.reproduced.write", write)
    outcome = CliRunner().invoke(reproduced, ["--state", str(tmp_path)])
    assert (outcome.exit_code, outcome.output.strip()) == (1, "it failed")


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delenv("CHIASM_COMMIT", raising=False)
    for name in ("bench/results/wire.json", "docs/wire.svg", "README.md", "chiasm/code.py"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("before\n")
    git(tmp_path, "init", "--quiet")
    git(tmp_path, "add", ".")
    git(tmp_path, "-c", "user.name=a", "-c", "user.email=a@b", "commit", "--quiet", "--message", "all")
    return tmp_path


def test_what_benchmarks_write_does_not_make_the_tree_another_one(repository: Path) -> None:
    head = git(repository, "rev-parse", "HEAD")
    assert tree_at(repository) == Tree(head)
    for name in ("bench/results/wire.json", "docs/wire.svg", "README.md"):
        (repository / name).write_text("after\n")
    assert tree_at(repository) == Tree(head)


def test_changed_code_does_and_each_change_is_another_tree(repository: Path) -> None:
    clean = tree_at(repository)
    trees = []
    for text in ("first\n", "second\n", "first\n"):
        (repository / "chiasm" / "code.py").write_text(text)
        trees.append(tree_at(repository))
    assert trees[0] == trees[2]
    assert {tree.commit for tree in trees} == {f"{clean.commit}-dirty"}
    assert len({tree.folder for tree in (clean, *trees)}) == 3


def test_a_copy_without_history_is_told_its_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CHIASM_COMMIT", raising=False)
    assert tree_at(tmp_path) == Tree("unknown")
    monkeypatch.setenv("CHIASM_COMMIT", "abc")
    assert tree_at(tmp_path) == Tree("abc")


def git(folder: Path, *arguments: str) -> str:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    return subprocess.run(
        ["git", *arguments], cwd=folder, env=environment, capture_output=True, text=True, check=True
    ).stdout.strip()
