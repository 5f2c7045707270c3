"""Copies where there is no card, and what is chosen where one cannot be used. Those with a card are in tests/gpu."""

import logging
from contextlib import nullcontext

import pytest
import torch

from chiasm.wire import card_copies
from chiasm.wire.card_copies import ToDevice, ToHost, is_finite

pytestmark = pytest.mark.slow  # to import what it is about

FLOATS = [
    torch.float64,
    torch.float32,
    torch.float16,
    torch.bfloat16,
    torch.float8_e5m2,
    torch.float8_e4m3fn,
    torch.float8_e4m3fnuz,
]


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


@pytest.mark.parametrize("dtype", [*FLOATS, torch.complex64, torch.int64, torch.uint16, torch.bool])
def test_values_of_every_kind_are_checked(dtype: torch.dtype) -> None:
    tensor = torch.ones(3, 4).to(dtype)
    assert is_finite(tensor)
    assert is_finite(tensor[:0])
    host, finite = ToHost().copy(tensor[:0])
    assert finite
    assert host.shape == (0, 4)


@pytest.mark.parametrize("dtype", [*FLOATS, torch.complex64])
def test_a_value_of_every_kind_that_is_no_number_is_told(dtype: torch.dtype) -> None:
    values = torch.ones(3, 4)
    values[1, 2] = float("nan")
    assert not is_finite(values.to(dtype))


def test_the_second_half_of_a_complex_number_counts() -> None:
    assert not is_finite(torch.tensor([1 + 1j, complex(1, float("inf"))]).conj())


def test_an_infinity_of_eight_bits_is_told() -> None:
    assert not is_finite(torch.tensor([1.0, float("inf")]).to(torch.float8_e5m2))


def test_on_a_cpu_what_landed_is_used_where_it_lies() -> None:
    landed = torch.randn(3, 4)
    assert ToDevice(torch.device("cpu")).copy(landed).data_ptr() == landed.data_ptr()


def test_a_device_that_is_not_cuda_gets_an_ordinary_copy() -> None:
    assert ToDevice(torch.device("meta")).copy(torch.randn(3, 4)).is_meta


@pytest.fixture
def no_cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where torch has no CUDA, it knows of no current card either."""
    monkeypatch.setattr(torch.cuda, "device", lambda device: nullcontext())


def test_that_nothing_can_be_pinned_is_found_out_and_said_once(
    no_cuda: None, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    tried = []

    def refuse(nbytes: int) -> torch.Tensor:
        tried.append(nbytes)
        raise RuntimeError("CUDA error: OS call failed\nmore")

    monkeypatch.setattr(card_copies, "_pin", refuse)
    cards = card_copies._Cards(1 << 20)
    device = torch.device("cuda", 1)
    with caplog.at_level(logging.WARNING):
        assert cards.of(device) is None
        assert cards.of(device) is None
    assert tried == [1 << 20]
    (record,) = caplog.records
    assert "3 MiB" in record.message
    assert "cuda:1" in record.message
    assert "the driver gave no pinned memory (3 MiB): CUDA error: OS call failed" in record.message
    assert "more" not in record.message


def test_other_troubles_of_a_card_are_not_taken_for_that(no_cuda: None, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(device: torch.device) -> None:
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    monkeypatch.setattr(card_copies, "_pin", lambda nbytes: torch.empty(nbytes, dtype=torch.uint8))
    monkeypatch.setattr(torch.cuda, "Stream", fail)
    with pytest.raises(RuntimeError, match="illegal memory access"):
        card_copies._Cards(1 << 20).of(torch.device("cuda", 0))


def test_each_card_has_a_stream_and_buffers_of_its_own(no_cuda: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(card_copies, "_pin", lambda nbytes: torch.empty(nbytes, dtype=torch.uint8))
    monkeypatch.setattr(card_copies, "_Card", lambda device, buffers: object())
    cards = card_copies._Cards(1 << 20)
    first, second = (cards.of(torch.device("cuda", number)) for number in (0, 1))
    assert first is not second
    assert cards.of(torch.device("cuda", 0)) is first
