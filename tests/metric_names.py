"""Metrics by name: those that docs/metrics.md lists, those on a page, in vLLM's source, and in a query."""

import importlib.util
import re
from dataclasses import dataclass
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "metrics.md"
RULES = ROOT / "chiasm" / "telemetry" / "prometheus" / "alerts.yaml"
DASHBOARD = ROOT / "chiasm" / "telemetry" / "grafana" / "dashboard.json"

_ROW = re.compile(r"^\| `((?:chiasm_|process_|vllm:)\w+)` \| (counter|gauge|histogram) \|([^|]*)\|", re.MULTILINE)
_NAME = re.compile(r"[A-Za-z_:][\w:]*")
_IN_VLLM = re.compile(r'self\._(gauge|counter|histogram)_cls\(\s*name="(vllm:\w+)"')


@dataclass(frozen=True)
class Listed:
    """One line of the docs' tables."""

    kind: str
    labels: frozenset[str]  # of Chiasm's own


def listed(heading: str) -> dict[str, Listed]:
    """The metrics in the table under a heading of the docs."""
    [section] = re.findall(rf"^### {re.escape(heading)}\n(.*?)(?=^##|\Z)", PAGE.read_text(), re.DOTALL | re.MULTILINE)
    return {
        name: Listed(kind, frozenset(filter(None, labels.strip().split(", "))))
        for name, kind, labels in _ROW.findall(section)
    }


def exposed(page: bytes) -> dict[str, Listed]:
    """What a page has, as the docs would list it."""
    found = {}
    for family in text_string_to_metric_families(page.decode()):
        if family.name.endswith("_created"):
            continue
        labels = frozenset(label for sample in family.samples for label in sample.labels) - {"le"}
        name = f"{family.name}_total" if family.type == "counter" else family.name
        found[name] = Listed(family.type, labels)
    return found


def of_vllm() -> dict[str, str]:
    """Kinds of the metrics that vLLM's engines have, by the names under which they are scraped."""
    found = importlib.util.find_spec("vllm")
    assert found is not None
    assert found.submodule_search_locations is not None
    source = Path(found.submodule_search_locations[0], "v1", "metrics", "loggers.py").read_text()
    return {f"{name}_total" if kind == "counter" else name: kind for kind, name in _IN_VLLM.findall(source)}


def samples(name: str, kind: str) -> set[str]:
    """The names that a metric's samples have."""
    return {f"{name}_{part}" for part in ("bucket", "sum", "count")} if kind == "histogram" else {name}


def known() -> set[str]:
    """All samples that a query may ask for, but `up`."""
    ours = {
        sample
        for heading in ("Gateway", "Scheduler", "Engines")
        for name, one in listed(heading).items()
        for sample in samples(name, one.kind)
    }
    return ours | {sample for name, kind in of_vllm().items() for sample in samples(name, kind)}


def asked_for(query: str) -> set[str]:
    """The metrics in a query, by the prefixes that they have."""
    bare = re.sub(r'"[^"]*"', "", query)
    return {name for name in _NAME.findall(bare) if name.startswith(("chiasm", "vllm:")) or name == "up"}
