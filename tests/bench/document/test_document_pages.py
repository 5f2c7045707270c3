"""The committed pages are what the committed results give, and the templates fit every result that may yet come."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from bench.document.pages import BEGIN, END, stale, write
from bench.document.results import BadDocument

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[3]
TO_COME: dict[str, dict[str, Any]] = {  # benchmarks whose results may not be there yet, and what the page takes of each
    "itl": {
        "bystander_slope_image_vs_text_tokens": 1.125,
        "bystander_p99_itl_mono_vs_split": 7.5,
        "carrier_slope_ms_per_1k_split": 11.5,
        "carrier_slope_ms_per_1k_mono": 112.5,
    },
    "itl_towers": {"measured_vs_predicted_deep": 0.9375},
    "serve": {"goodput_split_vs_mono_text": 0.875, "image_ttft_p50_split_vs_mono": 2.375},
    "serve_full": {"goodput_split_vs_mono_text": 0.875},
    "serve_pace2": {"goodput_split_steal_vs_mono_4img": 1.375},
    "serve_pace4": {"goodput_split_steal_vs_mono_4img": 1.875},
    "fan_out": {"image_ttft_two_vs_one_encoder_4img": 0.625},
    "cross_check": {"median_ttft_ms_difference_percent": 1.25, "within_noise_of_5": 5.0, "equivalent_of_5": 4.0},
    "overhead": {
        "added_ttft_p50_ms": 3.5,
        "image_added_ttft_p50_ms": 4.25,
        "added_per_token_ms": 0.0625,
        "throughput_vs_direct": 0.985,
    },
    "vllm_epd": {"ttft_p50_vs_vllm_epd": 0.625, "throughput_vs_vllm_epd": 1.25},
    "profile": {
        "phase_sum_error": 0.0125,
        "overhead_throughput_on_vs_off": 0.9875,
        "encode_pct_of_compute_peak": 61.5,
        "decode_pct_of_bandwidth_peak": 51.5,
        "encode_intensity_flop_per_byte": 131.5,
        "decode_intensity_flop_per_byte": 2.5,
    },
    "kv_bytes": {"most_blocks_apart": 2},
}
GAIN = "text_burst_throughput_on_vs_off"
SUMMARY = {"what": "summary", "rounds": 5, "burst_requests_per_s": 2.5, "goodput_per_s": 1.9375}
SUMMARY |= {"burst_failed": 0, "goodput_decided_by": "at once"}
SUMMARY |= {"percentiles": "P95 of TTFT, P99 of ITL"}
SUMMARY |= {"goodput_told": "1.94 (1.75 to 2.12)", "light_ttft_p50_ms": 1234.0}
SUMMARY |= {"light_ttft_tail": "p95", "light_ttft_tail_ms": 2345.0, "light_requests": 20}
SUMMARY |= {"itl_objective_ms": 600.0}
AGAINST = {"vs_best_mono_low": 1.125, "vs_best_mono_high": 1.625}
AGAINST |= {"vs_best_mono_told": "≥ 1.38", "light_ttft_p50_vs_mono": 2.375, "best_mono": "mono-x2"}
AGAINST |= {"burst_vs_best_mono": 0.81, "burst_vs_best_mono_low": 0.79, "burst_vs_best_mono_high": 0.83}
AGAINST |= {"goodput_tokens_per_dollar_told": "≥ 4,322"}
DRIFT = {"what": "drift", "again": "mono again 1", "burst_vs_first": 0.97, "burst_vs_first_low": 0.95}
DRIFT |= {"burst_vs_first_high": 1.0}
GRID = {"what": "grid", "ttft_objective_ms": 5000.0} | {f"itl_{ms}_ms": "0.81" for ms in (100, 200, 300, 450, 600)}
GRID |= {"itl_1000_ms": "≥ 1.25", "itl_2000_ms": "both"}
LOSES = {
    "what": "loses",
    "below_1": 3,
    "interval_below_1": 1,
    "interval_above_1": 2,
    "bound_below_1": 2,
    "told": 24,
    "where": "TTFT 1000 ms with ITL 300 (0.81) ms",
}


def compared() -> list[dict[str, Any]]:
    """Rows of a comparison, made up."""
    rows: list[dict[str, Any]] = [{"what": "side", "arrangement": "split", "prefill_chunk": 64, "step_ms": 191.5}]
    rows[0] |= {"beside_streams": 4, "kept": True}
    for workload, ttft in (("text", 5000.0), ("1img", 5000.0), ("4img", 10000.0)):
        summary = SUMMARY | {"workload": workload, "ttft_objective_ms": ttft}
        rows += [summary | {"arrangement": "mono"}, DRIFT | {"workload": workload}]
        for arrangement in ("split", "split+steal"):
            of = {"workload": workload, "arrangement": arrangement}
            rows += [summary | AGAINST | of, GRID | of, LOSES | of]
    return rows


ROWS: dict[str, list[dict[str, Any]]] = {
    **{name: compared() for name in ("serve", "serve_full", "serve_pace2", "serve_pace4")},
    "fan_out": [
        {"round": "all", "images": 2, "rounds": 12, "two_ms": 1234.5, "one_ms": 2345.5, "ratio": 0.526}
        | {"low": 0.501, "high": 0.551, "share_of_the_first": 0.5},
    ],
    "cross_check": [
        {"figure": "median_ttft_ms", "ours": 101.5, "vllm_bench_serve": 100.25, "difference_percent": 1.25}
        | {"low_percent": -1.5, "high_percent": 3.5, "equivalent": True},
        {"figure": "p90_itl_ms", "ours": 1.5, "vllm_bench_serve": 0.0, "difference_percent": None},
    ],
    "itl_towers": [
        {"what": "tower", "like": "Gemma-3-4B", "encode_to_prefill_flops": 1.71, "encode_share": 0.8125}
        | {
            "tokens": 256,
            "blocks": 5,
            "lost": 0,
            "measured_low": 6.5,
            "measured_high": 7.5,
            "measured": 7.125,
            "predicted": 7.625,
            "measured_vs_predicted": 0.9375,
        }
    ],
    "itl": [
        {
            "what": "ratio",
            "of": "added to a bystander's ITLs",
            "side": "split",
            "kind": "live : text",
            "value": 1.125,
            "low": 1.0625,
        }
        | {"high": 1.1875},
        {"what": "tail", "side": "mono", "against": "split", "carriers": "burst of 4", "percentile": "p99"}
        | {"drive": "bursts", "at_once": 4, "tokens": 516, "samples": 1234, "against_samples": 2345}
        | {"high_ms": 1512.0, "against_high_ms": 201.0, "ratio": 7.5, "low": 6.25, "high": 8.75},
    ],
    "vllm_epd": [
        *(
            {"images": images, "load": load, "arrangement": side, "round": 1, "completed": 6}
            | {"median_ttft_ms": 1234.0, "median_tpot_ms": 61.0}
            for images in (1, 2)
            for load in ("60 %", "90 %", "all at once")
            for side in ("split", "vllm-epd")
        ),
        *(
            {"images": 1, "load": load, "round": "all", "figure": figure, "median": 0.875}
            | {"least": 0.8125, "most": 0.9375, "failed": 0}
            for load, figure in (("60 %", "ttft_p50_vs_vllm_epd"), ("all at once", "throughput_vs_vllm_epd"))
        ),
        {"images": 1, "load": "60 %", "arrangement": "split", "round": "cores"}
        | {"engine_cores": 1.5, "other_cores": 0.2},
    ],
    "overhead": [
        {"traffic": "text", "block": 1, "pairs": 16, "ttft_p50_direct_ms": 17.5, "added_ttft_p50_ms": 3.25},
        {"traffic": "images", "block": 1, "pairs": 16, "ttft_p50_direct_ms": 51.5, "added_ttft_p50_ms": 4.25},
        {"traffic": "text", "block": "all", "figure": "added_ttft_p50_ms", "value": 3.5, "low": 3.125, "high": 3.875},
    ],
    "profile": [
        {"what": "burst", "pair": 1, "tokens_per_s_on": 71.25, "tokens_per_s_off": 72.75},
        {"what": "sums", "requests": 200},
    ],
    "kv_bytes": [
        {"images": 1, "width": 224, "height": 336, "image_tokens": 96, "prompt_tokens": 120, "generated_tokens": 3}
        | {"image_kv_bytes": 111111, "computed_blocks": 2, "allocated_blocks": 2, "allocated_bytes": 222333}
    ],
}


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """What the pages are made of, and what they have links to, copied."""
    for name in ("README.md", "docs", "bench/results", "bench/document", "chiasm/models/README.md"):
        source, copy = ROOT / name, tmp_path / name
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copytree(source, copy) if source.is_dir() else shutil.copy(source, copy)
    return tmp_path


def add(checkout: Path, name: str) -> None:
    """A result of that name, made up."""
    like = json.loads((checkout / "bench" / "results" / "wire.json").read_text())
    made_up = like | {"name": name, "headline": TO_COME[name], "series": ROWS.get(name, [])}
    (checkout / "bench" / "results" / f"{name}.json").write_text(json.dumps(made_up))


def page(checkout: Path) -> str:
    write(checkout)
    return (checkout / "docs" / "benchmarks.md").read_text()


def test_the_committed_pages_are_what_the_results_give() -> None:
    checked = subprocess.run(
        [sys.executable, "-m", "bench.document", "--check"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    assert (checked.returncode, checked.stdout + checked.stderr) == (0, "")


@pytest.mark.parametrize("name", ["README.md", "docs/benchmarks.md"])
def test_a_figure_that_is_changed_by_hand_is_found(checkout: Path, name: str) -> None:
    assert not stale(checkout)
    gain = json.loads((checkout / "bench" / "results" / "steal.json").read_text())["headline"][GAIN]
    path = checkout / name
    path.write_text(path.read_text().replace(f"{gain:.2f}", "99.99"))
    assert list(stale(checkout)) == [path]


def test_a_result_that_is_measured_anew_changes_the_pages(checkout: Path) -> None:
    result = checkout / "bench" / "results" / "steal.json"
    report = json.loads(result.read_text())
    report["headline"][GAIN] = 99.99
    result.write_text(json.dumps(report))
    changed = stale(checkout)
    assert list(changed) == [checkout / "docs" / "benchmarks.md", checkout / "README.md"]
    assert all("99.99" in text for text in changed.values())


def test_what_is_written_is_up_to_date_and_keeps_the_rest_of_the_readme(checkout: Path) -> None:
    readme = checkout / "README.md"
    before, _, rest = readme.read_text().partition(BEGIN)
    _, _, after = rest.partition(END)
    readme.write_text(f"{before}{BEGIN}\nold\n{END}{after}")
    (checkout / "docs" / "benchmarks.md").unlink()
    assert write(checkout) == [checkout / "docs" / "benchmarks.md", readme]
    assert not stale(checkout)
    assert readme.read_text() == (ROOT / "README.md").read_text()
    assert write(checkout) == []


@pytest.mark.parametrize("name", TO_COME)
def test_a_result_that_is_not_there_is_named_and_one_that_comes_is_shown(checkout: Path, name: str) -> None:
    result = checkout / "bench" / "results" / f"{name}.json"
    result.unlink(missing_ok=True)
    without = page(checkout)
    assert f"`bench/results/{name}.json`, by `chiasm bench" in without
    add(checkout, name)
    with_it = page(checkout)
    assert f"`bench/results/{name}.json`, by" not in with_it
    assert len(headings(with_it)) == len(headings(without)) + 1


def test_the_page_with_everything_measured(checkout: Path) -> None:
    for name in TO_COME:
        add(checkout, name)
    text = page(checkout)
    assert "Not measured yet:\n\nNone.\n" in text
    assert "{{" not in text
    assert links_into(text) <= set(map(slug, headings(text)))
    for shown in (
        "1.12",
        "7.50",
        "≥ 1.38, ≥ 1.38",
        "3.5 (3.1 to 3.9), 4.2 (– to –), 0.06 (– to –): shown of text, – of tokens; 0.98 (– to –), –",
        "0.88 (0.81 to 0.94), – (– to –), met; – (– to –); 0.88 (0.81 to 0.94), 61 to 61 ms",
        "71.2",
        "224 × 336",
        "3.125 to 3.875",
    ):
        assert shown in text, shown
    readme = (checkout / "README.md").read_text()
    for shown in (
        "1.12 (95 %: 1.06 to 1.19); 7.50 (6.25 to 8.75)",
        "≥ 1.38, ≥ 1.38, ≥ 1.38",
        "2.38",
        "3.5 (3.1 to 3.9), 4.2 (– to –), 0.06 (– to –) |",
        "0.88 (0.81 to 0.94), – (– to –); 0.88 (0.81 to 0.94) |",
    ):
        assert shown in readme, shown


def test_links_within_the_committed_page_lead_somewhere() -> None:
    text = (ROOT / "docs" / "benchmarks.md").read_text()
    assert links_into(text)
    assert links_into(text) <= set(map(slug, headings(text)))


def test_every_section_says_where_it_loses_and_what_it_does_not_show(checkout: Path) -> None:
    for name in TO_COME:
        add(checkout, name)
    sections = page(checkout).split("\n## ")[2:-2]  # but for the one at a glance, and the two at the end
    assert len(sections) >= len(TO_COME)
    for section in sections:
        for part in ("> `chiasm ", "at commit `", "**Where it loses.**", "**What it does not show.**"):
            assert part in section, section.partition("\n")[0]


def test_every_picture_that_is_there_is_shown(checkout: Path) -> None:
    template = (checkout / "bench" / "document" / "benchmarks.in.md").read_text()
    names = re.findall(r"\{\{picture (\S+): ", template)
    for name in names:
        (checkout / "docs" / name).touch()
    for name in TO_COME:
        add(checkout, name)
    assert re.findall(r"!\[.+\]\((\S+)\)", page(checkout)) == names


def test_a_readme_without_a_place_for_the_results_is_refused(checkout: Path) -> None:
    readme = checkout / "README.md"
    readme.write_text(readme.read_text().replace(END, ""))
    with pytest.raises(BadDocument, match=r"README\.md has no lines"):
        write(checkout)


def test_a_name_that_the_results_do_not_have_is_refused_with_its_template(checkout: Path) -> None:
    template = checkout / "bench" / "document" / "readme.in.md"
    template.write_text("{{wire.headline.nothing}}")
    with pytest.raises(BadDocument, match=r"bench/document/readme\.in\.md: \{\{wire\.headline\.nothing\}\}: "):
        write(checkout)


@pytest.mark.parametrize("text", ["{", '{"name": "wire"}'])
def test_a_result_that_is_no_report_is_refused(checkout: Path, text: str) -> None:
    (checkout / "bench" / "results" / "wire.json").write_text(text)
    with pytest.raises(BadDocument, match=r"wire\.json is not a benchmark's report: .+ Cure: "):
        write(checkout)


def headings(text: str) -> list[str]:
    return re.findall(r"^#+ (.+)$", re.sub(r"```.*?```", "", text, flags=re.DOTALL), re.MULTILINE)


def slug(heading: str) -> str:
    """A heading's anchor, as GitHub makes it."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def links_into(text: str) -> set[str]:
    return set(re.findall(r"\]\(#([^)]+)\)", text))


def test_the_page_has_what_decides_and_where_it_loses(checkout: Path) -> None:
    for name in TO_COME:
        add(checkout, name)
    text = page(checkout)
    for shown in (
        "within TTFT 5,000 ms (10,000 ms of four images) and ITL 600 ms",
        "| 3 of 24 | 1 | 2 | 2 | TTFT 1000 ms with ITL 300 (0.81) ms |",
        "| split | 64 | 192 | 4 | True |",
        "1.062 to 1.188",
        "| burst of 4 | p99 | 1,512 | 201 | 1,234 and 2,345 | 7.50 | 6.25 to 8.75 |",
        "| 256 | 1.71 | 81 % | 7.12 | 6.50 to 7.50 | 7.62 | 0.94 | 5 | 0 |",
        "| `median_ttft_ms` | 101.50 | 100.25 | +1.2 % | -1.5 to +3.5 % | True |",
        "4 of 5",
        "0.94 to 0.94",
    ):
        assert shown in text, shown


@pytest.mark.parametrize("name", ["itl", "serve", "overhead", "vllm_epd", "cross_check"])
def test_figures_that_could_not_be_told_leave_a_dash(checkout: Path, name: str) -> None:
    """Of hours of measuring, nothing is lost because one figure is missing."""
    for each in TO_COME:
        add(checkout, each)
    result = checkout / "bench" / "results" / f"{name}.json"
    result.write_text(json.dumps(json.loads(result.read_text()) | {"headline": {}}))
    assert "{{" not in page(checkout)
