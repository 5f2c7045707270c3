"""Whether a worker is where its pool wants it."""

import pytest
from rich.console import Console

from chiasm.landing import fallback_taken, fits
from chiasm.status_view import status_tables

GROUP = "ray.io/node-group"


@pytest.mark.parametrize(
    ("wanted", "value", "fitting"),
    [
        ("encoder", "encoder", True),
        ("encoder", "encoder-2", False),
        ("encoder", None, False),
        ("!encoder", "decoder", True),
        ("!encoder", "encoder", False),
        ("!encoder", None, True),
        ("in(L4,L40S)", "L40S", True),
        ("in(L4, L40S)", "L40S", True),
        ("in(L4,L40S)", "L40", False),
        ("in(L4,L40S)", None, False),
        ("!in(L4,L40S)", "H100", True),
        ("!in(L4,L40S)", "L4", False),
    ],
)
def test_a_selector_of_ray_s(wanted: str, value: str | None, fitting: bool) -> None:
    assert fits({GROUP: wanted}, {} if value is None else {GROUP: value}) is fitting


def test_every_label_has_to_fit() -> None:
    node = {GROUP: "encoder", "zone": "a"}
    assert fits({GROUP: "encoder", "zone": "a"}, node)
    assert not fits({GROUP: "encoder", "zone": "b"}, node)
    assert fits({}, node)


def test_a_worker_at_home_has_nothing_to_tell() -> None:
    assert fallback_taken({GROUP: "encoder"}, [{GROUP: "decoder"}], {GROUP: "encoder"}) == ""
    assert fallback_taken({}, [], {GROUP: "decoder"}) == ""


def test_a_worker_elsewhere_tells_the_first_fallback_that_fits() -> None:
    fallbacks = [{GROUP: "spare"}, {GROUP: "decoder"}, {}]
    text = fallback_taken({GROUP: "encoder"}, fallbacks, {GROUP: "decoder"})
    assert text == (
        "no node with ray.io/node-group=encoder could take it, so it runs on a node with ray.io/node-group=decoder: "
        "a fallback of its pool"
    )
    assert "runs on any node" in fallback_taken({GROUP: "encoder"}, fallbacks, {})


def shown(fallback: str) -> str:
    worker = {
        "worker": "encoder-0",
        "role": "encoder",
        "node": "10.0.0.1",
        "running": 0,
        "waiting": 0,
        "slots": 1,
        "kv_tokens": 0,
        "tokens_per_s": 1000.0,
        "measured": True,
        "held": 0,
        "fallback": fallback,
    }
    status = {"ready": True, "workers": [worker], "thieves": [], "counters": {}}
    console = Console(width=200)
    with console.capture() as capture:
        for table in status_tables(status | dict.fromkeys(("encoding", "withheld", "decoding"), 0)):
            console.print(table)
    return capture.get()


def test_the_status_warns_of_it() -> None:
    assert "warning" not in shown("")
    text = fallback_taken({GROUP: "encoder"}, [{GROUP: "decoder"}], {GROUP: "decoder"})
    assert "warning: not where their pools want them" in shown(text)
    assert text in shown(text)
