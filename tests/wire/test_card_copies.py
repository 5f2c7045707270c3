"""Copies where there is no card, and what is chosen where one cannot be used. Those with a card are in tests/gpu."""

import logging

import pytest
import torch

from chiasm.wire import card_copies
from chiasm.wire.card_copies import ToDevice, ToHost, is_finite


def test_the_host_copy_is_nobody_elses() -> None:
    batch = torch.randn(8, 4)
    host, finite = ToHost().copy(batch[2:5])
    assert finite
    assert torch.equal(host, batch[2:5])
    assert host.untyped_storage().nbytes() == host.nbytes  # a slice would keep the whole batch


def test_it_is_contiguous() -> None:
    host, _ = ToHost().copy(torch.randn(4, 8).T)
    assert host.is_contiguous()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("place", [0, 4321, -1])
def test_a_value_that_is_not_finite_is_told(dtype: torch.dtype, bad: float, place: int) -> None:
    tensor = torch.randn(100, 100).to(dtype)
    assert is_finite(tensor)
    tensor.view(-1)[place] = bad
    assert not ToHost().copy(tensor)[1]


def test_the_largest_values_are_finite() -> None:
    extremes = torch.finfo(torch.bfloat16)
    assert is_finite(torch.tensor([[extremes.max, extremes.min]], dtype=torch.bfloat16))


def test_on_a_cpu_what_landed_is_used_where_it_lies() -> None:
    landed = torch.randn(3, 4)
    assert ToDevice(torch.device("cpu")).copy(landed).data_ptr() == landed.data_ptr()


def test_a_device_that_is_not_cuda_gets_an_ordinary_copy() -> None:
    assert ToDevice(torch.device("meta")).copy(torch.randn(3, 4)).is_meta


def test_that_nothing_can_be_pinned_is_found_out_and_said_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    tried = []

    def refuse(device: torch.device, piece_bytes: int) -> None:
        tried.append(device)
        raise RuntimeError("CUDA error: OS call failed\nmore")

    monkeypatch.setattr(card_copies, "_Card", refuse)
    cards = card_copies._Cards(1 << 20)
    device = torch.device("cuda", 1)
    with caplog.at_level(logging.WARNING):
        assert cards.of(device) is None
        assert cards.of(device) is None
    assert tried == [device]
    (record,) = caplog.records
    assert "3 MiB" in record.message
    assert "cuda:1" in record.message
    assert "OS call failed" in record.message
    assert "ulimit -l" in record.message


def test_each_card_has_a_stream_and_buffers_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(card_copies, "_Card", lambda device, piece_bytes: object())
    cards = card_copies._Cards(1 << 20)
    first, second = (cards.of(torch.device("cuda", number)) for number in (0, 1))
    assert first is not second
    assert cards.of(torch.device("cuda", 0)) is first
