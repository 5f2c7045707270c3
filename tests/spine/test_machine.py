"""The names of what this machine computes with."""

from types import SimpleNamespace

import pytest

import chiasm.machine
from chiasm.machine import cpu_model, visible_gpus


class Card(Exception):
    """NVML's error."""


@pytest.fixture
def cards(monkeypatch: pytest.MonkeyPatch) -> None:
    names = {0: "L40S", 1: "H200", "GPU-1": "H200"}

    def find(device: int | str) -> str:
        if device not in names:
            raise Card
        return names[device]

    nvml = SimpleNamespace(
        NVMLError=Card,
        nvmlInit=lambda: None,
        nvmlShutdown=lambda: None,
        nvmlDeviceGetCount=lambda: 2,
        nvmlDeviceGetHandleByIndex=find,
        nvmlDeviceGetHandleByUUID=find,
        nvmlDeviceGetName=str,
    )
    monkeypatch.setattr(chiasm.machine, "pynvml", nvml)


@pytest.mark.parametrize(
    ("visible", "names"),
    [(None, ("L40S", "H200")), ("1", ("H200",)), ("1, 0", ("H200", "L40S")), ("GPU-1", ("H200",)), ("", ()), ("7", ())],
)
@pytest.mark.usefixtures("cards")
def test_the_gpus_are_those_that_this_process_may_use(
    monkeypatch: pytest.MonkeyPatch, visible: str | None, names: tuple[str, ...]
) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert visible_gpus() == names


def test_every_machine_has_a_processor() -> None:
    assert cpu_model()
