"""What a link between two hosts makes the fetch of an embedding take, by its round trip and its rate. Pure arithmetic.

    consumer ──Fetch──► producer               half a round trip
    consumer ◄──Header, chunks── producer      half a round trip, and then bytes as fast as the link takes them

* **Credit.** The producer has at most `wire.window_chunks` under way, and hears of what has landed half a window at a
  time. A window of W bytes leaves in W/rate; credit for its first half is back a round trip after that half has left.
  So W bytes take `round trip + W / (2 rate)` where that is longer.
* **TCP's window.** A new connection sends `opening` bytes before it has heard of any (10 segments, RFC 6928), and twice
  as many in each round trip after that, until they fill the link. So does one that was silent for some tenths of a
  second, unless `net.ipv4.tcp_slow_start_after_idle` of the producer's host is 0. The rest of each of these round trips
  is waited for (J. Kurose, K. Ross, Computer Networking, "Modeling latency: dynamic congestion window").
* **A new connection.** A consumer that has asked this producer for nothing in the last minute connects first: a round
  trip for TCP, two for ZMTP's greeting, two for CURVE's handshake.

Not in it is what the two hosts compute: encryption, checksum, copies. They do it while other chunks travel, so of an
item of several chunks it adds what it takes for one.
"""

import math
from dataclasses import dataclass

from chiasm.config import WireConfig

CONNECTING_ROUND_TRIPS = 5


@dataclass(frozen=True)
class Link:
    """The way between two hosts."""

    round_trip_s: float
    bytes_per_s: float
    opening: float = math.inf  # bytes that TCP sends before it has heard of any


def fetch_seconds(nbytes: int, link: Link, wire: WireConfig) -> float:
    """Seconds that the link makes the fetch of `nbytes` take, over a connection that is there already."""
    rate = _sustained(link, wire)
    return link.round_trip_s + nbytes / rate + _opening_waits(nbytes, link, rate)


def _sustained(link: Link, wire: WireConfig) -> float:
    """Bytes/s of a long transfer."""
    window = wire.window_chunks * wire.chunk_bytes
    return min(link.bytes_per_s, window / (link.round_trip_s + window / (2 * link.bytes_per_s)))


def _opening_waits(nbytes: int, link: Link, rate: float) -> float:
    """Seconds in which the producer has sent all that TCP lets it, and hears nothing yet."""
    window, left, waits = link.opening, float(nbytes), 0.0
    while left > window and window < rate * link.round_trip_s:
        waits += link.round_trip_s - window / rate
        left -= window
        window *= 2
    return waits
