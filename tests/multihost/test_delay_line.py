"""The line that stands in for netem: what it does to packets, and that nothing else does."""

import socket
import statistics
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from delay_line import DELAY_S, JITTER_S, RATE
from namespaces import inside
from network import Line, Network

pytestmark = pytest.mark.engine  # it measures, so it runs alone

ROUNDS = 200
PACKET = 1000
PATIENCE_S = 10.0
LATE_S = 0.002  # what this machine may add to a packet's way and back


@pytest.fixture
def echo(network: Network) -> Iterator[Callable[[bytes], bytes]]:
    """Sends a packet from the decoder's host to the encoder's, and returns what comes back."""
    with _socket(network, "encoder") as there, _socket(network, "decoder") as here:
        answering = threading.Thread(target=_answer, args=(there,))
        answering.start()

        def ask(packet: bytes) -> bytes:
            here.sendto(packet, there.getsockname())
            return here.recv(PACKET)

        try:
            yield ask
        finally:
            here.sendto(b"", there.getsockname())
            answering.join(PATIENCE_S)


@contextmanager
def _socket(network: Network, host: str) -> Iterator[socket.socket]:
    with inside(network.namespace(host)):
        made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with made:
        made.settimeout(PATIENCE_S)
        made.bind((network.addresses[host], 0))
        yield made


def _answer(sock: socket.socket) -> None:
    while True:
        packet, sender = sock.recvfrom(PACKET)
        if not packet:
            return
        sock.sendto(packet, sender)


def round_trips(echo: Callable[[bytes], bytes]) -> list[float]:
    seconds = []
    for number in range(ROUNDS):
        packet = b"%d" % number
        began = time.perf_counter()
        assert echo(packet) == packet
        seconds.append(time.perf_counter() - began)
    return seconds


def test_a_round_trip_takes_both_delays(line: Line, echo: Callable[[bytes], bytes]) -> None:
    direct = statistics.median(round_trips(echo))
    with line.taken():
        late = [seconds - direct for seconds in round_trips(echo)]
    assert statistics.mean(late) == pytest.approx(2 * DELAY_S, abs=LATE_S / 2)
    assert min(late) + direct >= 2 * (DELAY_S - JITTER_S)
    assert statistics.quantiles(late, n=20)[-1] <= 2 * (DELAY_S + JITTER_S) + LATE_S
    assert statistics.stdev(late) > JITTER_S / 2  # two draws of +-2 ms deviate by 1.6 ms
    assert statistics.median(round_trips(echo)) < DELAY_S  # and nothing is left of it


def test_packets_stay_in_order_and_come_at_the_line_s_rate(network: Network, line: Line) -> None:
    """TCP would count packets that overtake each other for losses, and be slow."""
    nbytes = RATE // 2
    with inside(network.namespace("encoder")), line.taken():
        listener = socket.create_server((network.addresses["encoder"], 0))
        with inside(network.namespace("decoder")):
            receiver = socket.create_connection(listener.getsockname(), PATIENCE_S)
    with listener, receiver, line.taken():
        sender, _ = listener.accept()
        with sender:
            sending = threading.Thread(target=sender.sendall, args=(bytes(nbytes),))
            began = time.perf_counter()
            sending.start()
            left = nbytes
            while left:
                left -= len(receiver.recv(1 << 20))
            seconds = time.perf_counter() - began
            sending.join(PATIENCE_S)
    assert nbytes / RATE < seconds < 1.25 * nbytes / RATE
