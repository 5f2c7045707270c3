"""An encoder's end of the embedding transport in a process of its own, as a host has it.

Reads the cluster's keys from its input, publishes tensors of the sizes that it is given, prints where they can be
fetched, and ends with its input.
"""

import random
import sys
from contextlib import closing

import msgspec

from chiasm.config import WireConfig
from chiasm.wire.keys import ClusterKeys
from chiasm.wire.server import EmbeddingServer
from chiasm.wire.store import EmbeddingStore

LAYOUT = "layout"
DTYPE = "float32"
WIDTH = 256


def shape(nbytes: int) -> tuple[int, int]:
    """Of the tensor with so many bytes."""
    return nbytes // (4 * WIDTH), WIDTH


def main() -> None:
    """The process."""
    keys = msgspec.json.decode(sys.stdin.readline(), type=ClusterKeys)
    address, *sizes = sys.argv[1:]
    store = EmbeddingStore(sum(map(int, sizes)), lease_s=0, on_evict=lambda _: None)
    for size in sizes:
        store.publish(size, random.Random(size).randbytes(int(size)), shape(int(size)), DTYPE, LAYOUT)
    with closing(EmbeddingServer(store, f"tcp://{address}:*", WireConfig(), keys)) as server:
        print(server.start(), flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    main()
