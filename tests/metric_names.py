"""Metrics by name: those that docs/metrics.md lists, those on a page, in vLLM's source, and in a query."""

import importlib.util
import json
import re
from dataclasses import dataclass
from pathlib import Path

import yaml
from prometheus_client.parser import text_string_to_metric_families

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "metrics.md"
RULES = ROOT / "chiasm" / "telemetry" / "prometheus" / "alerts.yaml"
DASHBOARD = ROOT / "chiasm" / "telemetry" / "grafana" / "dashboard.json"
MONITORING = ROOT / "k8s" / "monitoring"

_ROW = re.compile(r"^\| `((?:chiasm_|process_|vllm:)\w+)` \| (counter|gauge|histogram) \|([^|]*)\|", re.MULTILINE)
_NAME = re.compile(r"[A-Za-z_:][\w:]*")
_WORD = re.compile(r"""#.*|"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*'|`[^`]*`|\$\{?\w+\}?|[\w:.]+|[^\s]""")
_NO_WORDS = ("#", '"', "'", "`", "$")  # comments, texts, variables of Grafana's
_TAKE_LABELS = {"by", "without", "on", "ignoring", "group_left", "group_right"}
_OPERATORS = {"and", "or", "unless", "atan2", "bool", "offset", "inf", "nan"}
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
    """The names of the series that a query in PromQL selects.

    What is left of its words without those in braces and brackets, lists of labels, functions and operators.
    """
    assert "__name__" not in query, "a selector without a name is not understood"
    words = [found[0] for found in _WORD.finditer(query) if not found[0].startswith(_NO_WORDS)]
    names, depth, labels = set(), 0, False
    for word, following in zip(words, [*words[1:], ""], strict=True):
        if word in "{[":
            depth += 1
        elif word in "}]":
            depth -= 1
        elif depth:
            continue
        elif word in _TAKE_LABELS:
            labels = following == "("
        elif labels:
            labels = word != ")"
        elif _NAME.fullmatch(word) and word not in _OPERATORS and following not in ("(", "by", "without"):
            names.add(word)
    return names


def monitored() -> set[str]:
    """What the manifests' alerts and dashboard ask for, but for what the rules record themselves."""
    rule = yaml.safe_load((MONITORING / "alerts.yaml").read_text())
    rules = [rule for group in rule["spec"]["groups"] for rule in group["rules"]]
    board = json.loads(yaml.safe_load((MONITORING / "dashboard.yaml").read_text())["data"]["chiasm.json"])
    panels = [target["expr"] for panel in board["panels"] for target in panel.get("targets", ())]
    asked = {name for query in (*(rule["expr"] for rule in rules), *panels) for name in asked_for(query)}
    return asked - {rule["record"] for rule in rules if "record" in rule}
