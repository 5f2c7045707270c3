"""The PodMonitor against the gateway's own list of pages, and the alerts against Prometheus' tool."""

import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from kube_tools import ROOT, tool
from metric_names import known, monitored

from chiasm.config import ClusterConfig
from chiasm.gateway.views.scraping import targets
from chiasm.kubernetes.monitoring import dashboard, pod_monitor, prometheus_rule
from chiasm.messages import Status, WorkerStatus
from chiasm.nouns import RequestId, Role, WorkerId


def scraped(monitor: Any) -> set[tuple[str, str, str]]:
    """Path, pool and worker of each page."""
    found = set()
    for endpoint in monitor["spec"]["podMetricsEndpoints"]:
        labels = {each["targetLabel"]: each["replacement"] for each in endpoint["relabelings"]}
        assert endpoint["honorLabels"]
        found.add((endpoint["path"], labels["pool"], labels["worker"]))
    return found


@pytest.mark.parametrize("stealing", ["off", "yield"])
def test_every_page_is_scraped_as_the_gateway_lists_it(stealing: str) -> None:
    config = ClusterConfig.model_validate(
        {"encoders": {"count": 2}, "wholes": {"count": 1}, "scheduler": {"stealing": stealing}}
    )
    workers = [("encoder-0", Role.ENCODER), ("encoder-1", Role.ENCODER), ("decoder-0", Role.DECODER)]
    workers += [("whole-0", Role.WHOLE)]
    if stealing != "off":
        workers += [("encoder-0-text", Role.TEXT), ("encoder-1-text", Role.TEXT)]
    registered = tuple(WorkerStatus(WorkerId(name), role, "n", "u", 0, 0, 1, 0, 1.0, 0) for name, role in workers)
    listed = targets(Status(RequestId("r"), True, registered, 0, 0, 0, {}), "gateway:8000")
    pages = {(each["labels"]["__metrics_path__"], each["labels"]["pool"], each["labels"]["worker"]) for each in listed}
    assert scraped(pod_monitor(config)) == pages


def test_alerts_pass_promtool(tmp_path: Path) -> None:
    path = tmp_path / "rules.yaml"
    path.write_text(yaml.safe_dump({"groups": yaml.safe_load(yaml.safe_dump(prometheus_rule()))["spec"]["groups"]}))
    done = subprocess.run(
        [tool("promtool"), "check", "rules", str(path)], capture_output=True, text=True, timeout=50, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_manifests_ask_for_metrics_that_there_are() -> None:
    """That they are scraped as well is in tests/test_stealing_cluster.py."""
    asked = monitored()
    assert len(asked) > 30
    assert asked <= known() | {"up"}


def test_the_dashboard_is_the_packages_and_small_enough_for_a_config_map() -> None:
    found: Any = dashboard()
    assert found["metadata"]["labels"]["grafana_dashboard"] == "1"
    text = found["data"]["chiasm.json"]
    assert text == (ROOT / "chiasm/telemetry/grafana/dashboard.json").read_text()
    assert len(text.encode()) < 1_000_000
