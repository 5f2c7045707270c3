"""docs/metrics.md lists what the processes expose: by name, type and labels, and nothing else.

What it lists of engines, `tests/test_profiling_cluster.py` holds against the pages of real ones.
"""

import re
import shutil
import subprocess
from pathlib import Path

import pytest
from metric_names import PAGE, RULES, exposed, listed, of_vllm
from prometheus_client.metrics import MetricWrapperBase

from chiasm.gateway.outcomes import OUTCOMES
from chiasm.messages import Status, ThiefStatus, WorkerStatus
from chiasm.nouns import RequestId, Role, WorkerId
from chiasm.telemetry.metrics import GatewayMetrics
from chiasm.telemetry.scheduler_metrics import scheduler_page
from scheduler.counters import new_counters

promtool = pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed (Debian: prometheus)")


def test_the_gateways_metrics_are_listed() -> None:
    metrics = GatewayMetrics(OUTCOMES)
    for metric in vars(metrics).values():
        if isinstance(metric, MetricWrapperBase) and metric._labelnames:
            metric.labels(*metric._labelnames)  # one without labels is not there before
    assert exposed(metrics.exposition()) == listed("Gateway")


def test_the_schedulers_metrics_are_listed() -> None:
    workers = tuple(WorkerStatus(WorkerId(role), role, "n", "u", 0, 0, 1, 1, 1.0, 0) for role in Role)
    thieves = (ThiefStatus(WorkerId("text"), False, 0.0, 0.0, 1),)
    status = Status(RequestId("r"), True, workers, 0, 0, 0, new_counters(), thieves)
    assert exposed(scheduler_page(status)) == listed("Scheduler")


def test_what_is_said_of_vllms_metrics_is_in_its_source() -> None:
    beside = listed("vLLM's own that belong beside")
    assert beside
    assert {name: one.kind for name, one in beside.items()}.items() <= of_vllm().items()


def scrape_configuration() -> str:
    [text] = re.findall(r"^```yml\n(.*?)^```", PAGE.read_text(), re.DOTALL | re.MULTILINE)
    return str(text)


@promtool
def test_prometheus_takes_the_scrape_configuration(tmp_path: Path) -> None:
    (tmp_path / "prometheus.yml").write_text(scrape_configuration())
    shutil.copy(RULES, tmp_path / "alerts.yaml")
    checked = subprocess.run(
        ["promtool", "check", "config", "prometheus.yml"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert checked.returncode == 0, checked.stderr
