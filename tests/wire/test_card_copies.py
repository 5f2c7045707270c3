"""Copies where there is no card. Those with one are in tests/gpu."""

import pytest
import torch

from chiasm.wire.card_copies import ToDevice, ToHost


def test_the_host_copy_is_nobody_elses() -> None:
    batch = torch.randn(8, 4)
    host, finite = ToHost().copy(batch[2:5])
    assert finite
    assert torch.equal(host, batch[2:5])
    assert host.untyped_storage().nbytes() == host.nbytes  # a slice would keep the whole batch


def test_it_is_contiguous() -> None:
    host, _ = ToHost().copy(torch.randn(4, 8).T)
    assert host.is_contiguous()


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_value_that_is_not_finite_is_told(bad: float) -> None:
    assert not ToHost().copy(torch.tensor([[1.0, bad]]))[1]


def test_on_a_cpu_what_landed_is_used_where_it_lies() -> None:
    landed = torch.randn(3, 4)
    assert ToDevice(torch.device("cpu")).copy(landed).data_ptr() == landed.data_ptr()
