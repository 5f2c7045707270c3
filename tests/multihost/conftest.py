"""Networks of hosts, where the machine lets this process make them."""

from collections.abc import Iterator

import namespaces
import pytest
from network import Line, Network


@pytest.fixture(scope="module")
def network() -> Iterator[Network]:
    """One host for gateway and scheduler, one for the encoder, one for the decoder."""
    if (obstacle := namespaces.obstacle()) is not None:
        pytest.skip(obstacle)
    network = Network(["head", "encoder", "decoder"])
    with network.up():
        yield network


@pytest.fixture(scope="module")
def line(network: Network) -> Iterator[Line]:
    """The slow line between the encoder's host and the decoder's."""
    with network.line("encoder", "decoder") as line:
        yield line
