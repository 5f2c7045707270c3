"""The alert rules: what they say and ask for; with promtool also that they parse, fire, and are quiet."""

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from metric_names import PAGE, ROOT, RULES, asked_for, known

from chiasm.gateway.outcomes import OUTCOMES
from chiasm.status_view import status_tables

pytestmark = pytest.mark.slow

TESTS = Path(__file__).parent / "alerts_test.yaml"
GROUPS = yaml.safe_load(RULES.read_text())["groups"]
ALL_RULES = [rule for group in GROUPS for rule in group["rules"]]
ALERTS = [rule for rule in ALL_RULES if "alert" in rule]
RECORDED = {rule["record"] for rule in ALL_RULES if "record" in rule}


def run(*command: str) -> None:
    done = subprocess.run(["promtool", *command], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("rule", ALERTS, ids=lambda rule: rule["alert"])
def test_an_alert_waits_has_a_severity_and_says_what_to_do(rule: dict[str, Any]) -> None:
    assert rule["for"]
    assert rule["labels"]["severity"] in ("critical", "warning")
    assert rule["annotations"]["summary"]
    assert len(rule["annotations"]["description"]) > 100


@pytest.mark.parametrize("rule", ALL_RULES, ids=lambda rule: rule.get("alert") or rule["record"])
def test_a_rule_asks_for_metrics_that_there_are(rule: dict[str, Any]) -> None:
    asked = asked_for(rule["expr"])
    assert asked
    assert asked <= known() | RECORDED | {"up"}


@pytest.mark.parametrize(
    ("query", "names"),
    [
        ("up == 0", {"up"}),
        ('sum by (le, images) (rate(a_bucket{le="0.2", x=~"b|c"}[5m])) / 2', {"a_bucket"}),
        ("a:b:rate1h > 14.4 * 0.01 and on () c offset 10m", {"a:b:rate1h", "c"}),
        ("max by (worker) (max_over_time(a[1h])) unless on (pool, worker) b", {"a", "b"}),
        ("a * on (x) group_left (y) b or ignoring (z) c", {"a", "b", "c"}),
        ("histogram_quantile(0.5, sum(rate(a[$__rate_interval])) without (b)) # c", {"a"}),
        ("label_replace(a, 'b', '$1', \"c\", `d`) + inf", {"a"}),
    ],
)
def test_the_series_of_a_query_are_found(query: str, names: set[str]) -> None:
    assert asked_for(query) == names


def test_what_is_recorded_is_used() -> None:
    assert {name for rule in ALERTS for name in asked_for(rule["expr"])} >= RECORDED


def test_every_alert_is_in_the_docs_and_tested() -> None:
    for rule in ALERTS:
        assert f"`{rule['alert']}`" in PAGE.read_text()
        assert f'alertname="{rule["alert"]}", alertstate="firing"' in TESTS.read_text()


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed (Debian: prometheus)")
@pytest.mark.timeout(300)
def test_the_rules_parse_and_each_fires_where_it_should_and_nowhere_else() -> None:
    run("check", "rules", str(RULES))
    run("test", "rules", str(TESTS))


def test_where_an_idle_thiefs_reasons_stand_is_where_the_alert_sends_people() -> None:
    [rule] = [rule for rule in ALERTS if rule["alert"] == "ChiasmThiefIdle"]
    said = rule["annotations"]["description"]
    assert "chiasm explain" not in said  # it tells why a request was stolen, and not why none was
    named = set(re.findall(r"`([^`]+)`", said)) - {"chiasm status"}
    thief = {"worker": "t", "held": False, "encoder_busy_share": 0.0, "patience_s": 1.0, "at_most": 3}
    status = {"ready": True, "workers": [], "encoding": 0, "withheld": 0, "decoding": 0, "counters": {}}
    [_, stealing, _] = status_tables(status | {"thieves": [thief]})
    assert named
    assert named <= {column.header for column in stealing.columns}
    assert all((ROOT / page).exists() for page in re.findall(r"docs/\w+\.md", said))


@pytest.mark.parametrize("alert", ["ChiasmRequestsFail", "ChiasmRequestsRefused"])
def test_outcomes_that_alerts_ask_for_are_counted(alert: str) -> None:
    [rule] = [rule for rule in ALERTS if rule["alert"] == alert]
    [outcomes] = re.findall(r'outcome=~"([^"]+)"', rule["expr"])
    assert set(outcomes.split("|")) <= set(OUTCOMES)
