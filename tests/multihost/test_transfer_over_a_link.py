"""Embeddings fetched from one host to another, encrypted: what a line of 5 ms and 1 Gbit/s each way adds is what
`chiasm.wire.transfer_time` says.
"""

import queue
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest
from delay_line import DELAY_S, RATE
from namespaces import inside
from network import SETTINGS, Line, Network
from producer import DTYPE, LAYOUT, shape

from chiasm.config import WireConfig
from chiasm.wire.fetcher import EmbeddingFetcher, FetchResult
from chiasm.wire.keys import ClusterKeys
from chiasm.wire.transfer_time import CONNECTING_ROUND_TRIPS, Link, fetch_seconds

pytestmark = pytest.mark.engine  # it measures, so it runs alone

SMALL, CHUNK, LARGE = 4096, 1 << 20, 9 << 19  # the last is a 336 x 336 image's embedding in LLaVA-1.5-7B
LINK = Link(round_trip_s=2 * DELAY_S, bytes_per_s=RATE)
OPENING = 10 * (9000 - 52)  # ten segments, of the network's packets without their headers
CONFIG = WireConfig()
FETCHES = 15
IDLE_S = 1.0  # after which TCP's window, halved every 0.2 s, is the opening one again
TOLERANCE = 0.2
PATIENCE_S = 20.0


class Consumer:
    """A decoder's end of the transport, on the decoder's host."""

    def __init__(self, network: Network, endpoint: str, keys: ClusterKeys, config: WireConfig = CONFIG) -> None:
        self._endpoint = endpoint
        self._buffers = {str(nbytes): bytearray(nbytes) for nbytes in (SMALL, CHUNK, LARGE)}
        self._results: queue.SimpleQueue[FetchResult] = queue.SimpleQueue()
        with inside(network.namespace("decoder")):  # its thread stays there, and so do the sockets that this opens
            self._fetcher = EmbeddingFetcher(config, keys, "auto", lambda key, _: self._buffers[key])

    def fetch(self, nbytes: int) -> float:
        """How many seconds one fetch takes."""
        self._fetcher.fetch(str(nbytes), self._endpoint, shape(nbytes), DTYPE, LAYOUT, self._results.put)
        result = self._results.get(timeout=PATIENCE_S)
        assert result.ok, result
        return result.seconds

    def median(self, nbytes: int, fetches: int = FETCHES, pause_s: float = 0.0) -> float:
        """How many it takes when others came before it."""
        self.fetch(nbytes)
        self.fetch(nbytes)
        found = []
        for _ in range(fetches):
            time.sleep(pause_s)
            found.append(self.fetch(nbytes))
        return statistics.median(found)

    def close(self) -> None:
        self._fetcher.close()


@pytest.fixture(scope="module")
def keys() -> ClusterKeys:
    return ClusterKeys.generate()


@pytest.fixture(scope="module")
def endpoint(network: Network, keys: ClusterKeys) -> Iterator[str]:
    """Where the encoder's host hands out a tensor of each size."""
    script = str(Path(__file__).with_name("producer.py"))
    command = [sys.executable, script, network.addresses["encoder"], *map(str, (SMALL, CHUNK, LARGE))]
    with inside(network.namespace("encoder")):
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    with process:  # ends with its input
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(msgspec.json.encode(keys).decode() + "\n")
        process.stdin.flush()
        yield process.stdout.readline().strip()


@pytest.fixture(scope="module")
def consumer(network: Network, endpoint: str, keys: ClusterKeys) -> Iterator[Consumer]:
    with closing(Consumer(network, endpoint, keys)) as consumer:
        yield consumer


@pytest.mark.parametrize("nbytes", [SMALL, CHUNK])
def test_a_line_adds_its_round_trip_and_its_rate(consumer: Consumer, line: Line, nbytes: int) -> None:
    direct = consumer.median(nbytes)
    with line.taken():
        added = consumer.median(nbytes) - direct
    assert added == pytest.approx(fetch_seconds(nbytes, LINK, CONFIG), rel=TOLERANCE)


def test_what_the_hosts_compute_of_many_chunks_adds_as_much_as_of_one(consumer: Consumer, line: Line) -> None:
    computed = consumer.median(CHUNK)
    with line.taken():
        seconds = consumer.median(LARGE)
    assert seconds == pytest.approx(fetch_seconds(LARGE, LINK, CONFIG) + computed, rel=TOLERANCE)


def test_less_credit_than_fills_the_line_makes_it_slower(
    network: Network, endpoint: str, keys: ClusterKeys, line: Line
) -> None:
    config = WireConfig(chunk_bytes=64 << 10, window_chunks=4)
    with closing(Consumer(network, endpoint, keys, config)) as consumer:
        computed = consumer.median(SMALL)
        with line.taken():
            seconds = consumer.median(LARGE, fetches=5)
    expected = fetch_seconds(LARGE, LINK, config)
    assert expected > 2 * fetch_seconds(LARGE, LINK, CONFIG)
    windows = LARGE // (config.window_chunks * config.chunk_bytes)  # before each the hosts have something to compute
    assert seconds == pytest.approx(expected + windows * computed, rel=TOLERANCE)


def test_an_item_that_its_credit_covers_does_not_wait_for_more(
    network: Network, endpoint: str, keys: ClusterKeys, line: Line
) -> None:
    config = WireConfig(chunk_bytes=CHUNK // CONFIG.window_chunks)
    with closing(Consumer(network, endpoint, keys, config)) as consumer:
        direct = consumer.median(CHUNK)
        with line.taken():
            added = consumer.median(CHUNK) - direct
    assert added == pytest.approx(fetch_seconds(CHUNK, LINK, config), rel=TOLERANCE)


def test_tcp_opens_its_window_anew_after_a_pause(network: Network, consumer: Consumer, line: Line) -> None:
    """Unless the hosts are set up as docs/bare_metal.md advises, which all other tests are."""
    opening = replace(LINK, opening=OPENING)
    direct = consumer.median(CHUNK)
    network.set_tcp("encoder", {"tcp_slow_start_after_idle": "1"})
    try:
        with line.taken():
            added = consumer.median(CHUNK, fetches=5, pause_s=IDLE_S) - direct
    finally:
        network.set_tcp("encoder", SETTINGS)
    expected = fetch_seconds(CHUNK, opening, CONFIG)
    assert expected > 2 * fetch_seconds(CHUNK, LINK, CONFIG)
    assert added == pytest.approx(expected, rel=TOLERANCE)


def test_who_comes_new_connects_first(network: Network, endpoint: str, keys: ClusterKeys, line: Line) -> None:
    def connecting() -> float:
        found = []
        for _ in range(FETCHES):
            with closing(Consumer(network, endpoint, keys)) as consumer:
                first = consumer.fetch(SMALL)
                found.append(first - consumer.fetch(SMALL))
        return statistics.median(found)

    direct = connecting()
    with line.taken():
        added = connecting() - direct
    assert added == pytest.approx(CONNECTING_ROUND_TRIPS * LINK.round_trip_s, rel=TOLERANCE)


def test_a_host_that_is_cut_off_is_given_up_before_the_deadline(
    network: Network, endpoint: str, keys: ClusterKeys
) -> None:
    network.cut("encoder")
    try:
        with closing(Consumer(network, endpoint, keys)) as consumer, pytest.raises(AssertionError, match="UNREACHABLE"):
            consumer.fetch(SMALL)
    finally:
        network.join("encoder")


def test_nobody_without_the_cluster_s_keys_gets_in(network: Network, endpoint: str) -> None:
    with (
        closing(Consumer(network, endpoint, ClusterKeys.generate())) as stranger,
        pytest.raises(AssertionError, match="UNREACHABLE"),
    ):
        stranger.fetch(SMALL)
