"""What `make bench` is to run exists, takes these options, and fits into its hour."""

import re
import shlex
from pathlib import Path

import click
import pytest

from bench.cli import bench
from bench.document.plan import HEADLINE, HEADLINE_MINUTES, STEPS, Step, maker_of
from bench.serve.command import plan_of, serve
from bench.serve.options import Options

ROOT = Path(__file__).parents[3]


def test_the_headline_figures_fit_into_an_hour() -> None:
    assert {"itl", "overhead"} <= {step.name for step in HEADLINE}
    assert sum(step.minutes for step in HEADLINE) <= HEADLINE_MINUTES == 60


@pytest.mark.parametrize("step", [step for step in STEPS if step.command.startswith("chiasm bench serve ")])
def test_a_comparison_is_given_the_time_that_its_plan_takes(step: Step) -> None:
    """With everything up in two groups, as many as 20 GB hold, engines' starts included."""
    context = serve.make_context("serve", shlex.split(step.command.format(kept="kept"))[3:])
    if context.params["checking"]:
        return
    plan = plan_of(Options(**{name: context.params.get(name) for name in Options.__dataclass_fields__}))
    assert plan.about_minutes(groups=2, sides=len(plan.sides) + 1) <= step.minutes  # the first of them in both


def test_everything_that_the_document_tells_of_has_a_maker() -> None:
    text = (ROOT / "bench" / "document" / "benchmarks.in.md").read_text()
    told = {name for found in re.findall(r"\{\{with (.+?)\}\}", text) for name in found.split(", ")}
    made_with_a_gpu = {name for name in told if "h100" in name or "h200" in name}
    assert all(maker_of(name) for name in told - made_with_a_gpu)
    assert {f"phases-cpu-{name}" for name in ("pupil", "300m")} <= {step.result.stem for step in STEPS}


def test_each_step_has_a_name_and_a_result_of_its_own() -> None:
    assert len({step.name for step in STEPS}) == len({step.result for step in STEPS}) == len(STEPS)


@pytest.mark.parametrize("step", STEPS, ids=lambda step: step.name)
def test_a_command_exists_and_takes_its_options(step: Step, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    program, group, name, *arguments = shlex.split(step.command.format(kept="kept"))
    assert (program, group) == ("chiasm", "bench")
    command = bench.commands[name]
    context = command.make_context(name, arguments)
    assert isinstance(context, click.Context)
    assert step.result.parent == Path("bench/results")


def test_who_makes_a_result() -> None:
    assert maker_of("wire") == "chiasm bench wire --json bench/results/wire.json"
    assert maker_of("phases-h200-3b") is None


def test_what_a_command_is_told_about_resuming_is_not_shown() -> None:
    [itl] = (step for step in STEPS if step.name == "itl")
    assert "{kept}" in itl.command
    assert itl.shown in itl.command
    assert "{kept}" not in itl.shown
