"""docs/operating.md has a row for whatever a request can end with, and for every alert."""

import ast
import importlib
import pkgutil
import re
from collections.abc import Iterator
from inspect import getsource
from types import ModuleType

import pytest
import yaml
from metric_names import ROOT, RULES

import chiasm.gateway
from chiasm.gateway.errors import rejected
from chiasm.gateway.outcomes import OUTCOMES
from chiasm.messages import Reject, RejectReason
from chiasm.nouns import RequestId

PAGE = ROOT / "docs" / "operating.md"
GATEWAY = [
    importlib.import_module(found.name)
    for found in pkgutil.walk_packages(chiasm.gateway.__path__, "chiasm.gateway.")
    if not found.ispkg
]
ALERTS = [
    rule["alert"] for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"] if "alert" in rule
]


def rows(heading: str) -> list[str]:
    """The first cells of the table under a heading."""
    [section] = re.findall(rf"^### {heading}\n(.*?)(?=^##|\Z)", PAGE.read_text(), re.DOTALL | re.MULTILINE)
    return [line.split("|")[1] for line in section.splitlines() if line.startswith("|")]


def listed() -> set[tuple[int, str]]:
    """The named errors of the page: in their cells, codes stand behind the statuses that they come with."""
    return {
        (int(status), code)
        for cell in rows("Named errors")
        for statuses, codes in re.findall(r"((?:\d{3}, )*\d{3}) ((?:`\w+`(?:, )?)+)", cell)
        for status in statuses.split(", ")
        for code in re.findall(r"\w+", codes)
    }


def made(module: ModuleType) -> Iterator[tuple[int, str]]:
    """Status and code of each error that a module of the gateway makes by itself."""
    for node in ast.walk(ast.parse(getsource(module))):
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name):
            continue
        [code] = [each.value for each in node.keywords if each.arg == "code"] or [None]
        if node.func.id not in ("ApiError", "invalid") or code is None:
            continue
        if ast.unparse(code) in ("code", "reject.reason"):  # what `invalid` and `rejected` are given
            assert module.__name__ == "chiasm.gateway.errors"
            continue
        status = 400 if node.func.id == "invalid" else ast.literal_eval(node.args[0])
        yield status, eval(ast.unparse(code), vars(module))  # a text, or a constant of it


MADE = {error for module in GATEWAY for error in made(module)}
REJECTED = {(rejected(Reject(RequestId("r"), reason, "")).status, str(reason)) for reason in RejectReason}


def test_the_gateways_errors_are_found() -> None:
    assert {(401, "invalid_api_key"), (429, "gateway_full"), (400, "media_fetch_failed")} <= MADE
    assert (429, "queue_full") in REJECTED


def test_every_named_error_has_a_row_with_its_status_and_there_are_no_others() -> None:
    assert listed() == MADE | REJECTED


@pytest.mark.parametrize("outcome", OUTCOMES)
def test_every_outcome_is_named(outcome: str) -> None:
    assert f"`{outcome}`" in PAGE.read_text()


@pytest.mark.parametrize("alert", ALERTS)
def test_every_alert_has_a_row(alert: str) -> None:
    assert sum(f"`{alert}`" in cell for cell in rows("Alerts")) == 1
