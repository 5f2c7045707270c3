"""What the Prometheus operator and Grafana read: where the metrics are, the alerts, the dashboard."""

from importlib.resources import files
from typing import Any

import yaml

from chiasm.config import ClusterConfig
from chiasm.kubernetes.names import GATEWAY, POOLS, Object, metadata, pods_of, pools


def pod_monitor(config: ClusterConfig) -> Object:
    """Every page of metrics, scraped from the gateway, with the labels that the gateway's own list of targets gives.

    The pages are those of the workers of `cluster.yaml`, for a PodMonitor cannot ask for a list.
    """
    pages = [("", "gateway", "gateway"), ("/scheduler", "scheduler", "scheduler")]
    for name, pool in pools(config).items():
        pages += [_page(POOLS[name], f"{POOLS[name]}-{index}") for index in range(pool.count)]
        if name == "encoders" and config.scheduler.stealing != "off":
            pages += [_page("text", f"encoder-{index}-text") for index in range(pool.count)]
    return {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "PodMonitor",
        "metadata": metadata(config.kubernetes.name, "monitoring"),
        "spec": {
            "selector": {"matchLabels": pods_of(config.kubernetes.name, GATEWAY)},
            "podMetricsEndpoints": [_endpoint(*page) for page in pages],
        },
    }


def _page(pool: str, worker: str) -> tuple[str, str, str]:
    return f"/workers/{worker}", pool, worker


def _endpoint(page: str, pool: str, worker: str) -> Object:
    return {
        "port": "http",
        "path": f"/metrics{page}",
        "interval": "15s",
        "honorLabels": True,  # on the scheduler's page pool and worker are those of whom a line is about
        "relabelings": [
            {"targetLabel": "pool", "replacement": pool},
            {"targetLabel": "worker", "replacement": worker},
        ],
    }


def prometheus_rule() -> Object:
    """The alerts of the package."""
    rules: Any = yaml.safe_load(_text("prometheus/alerts.yaml"))
    return {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "PrometheusRule",
        "metadata": metadata("chiasm", "monitoring"),
        "spec": {"groups": rules["groups"]},
    }


def dashboard() -> Object:
    """The dashboard of the package, as Grafana's sidecar looks for it."""
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": metadata("chiasm-dashboard", "monitoring", grafana_dashboard="1"),
        "data": {"chiasm.json": _text("grafana/dashboard.json")},
    }


def _text(path: str) -> str:
    return files("chiasm.telemetry").joinpath(path).read_text(encoding="utf-8")
