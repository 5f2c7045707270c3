"""Gateways to test, each with neighbours of its own."""

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from typing import Any

import pytest
from gateway_fakes import Cluster, a_cluster
from image_origin import make, origin  # fixtures

__all__ = ["make", "origin"]


@pytest.fixture
async def make_cluster() -> AsyncIterator[Callable[..., Any]]:
    async with AsyncExitStack() as stack:
        yield lambda **config: stack.enter_async_context(a_cluster(**config))


@pytest.fixture
async def cluster() -> AsyncIterator[Cluster]:
    async with a_cluster() as cluster:
        yield cluster
