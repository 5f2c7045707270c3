"""A router over engines, in a process of its own: each request goes to the one that is the least loaded.

`python -m bench.topologies.router URL URL...` prints where it serves. Load is how many requests are under way, the new
one with them; of an engine that is so many times slower than others (`--slowness`, in the order of the URLs), it is so
many times more. It is ours, and as little as can be: it looks at no body, and passes the bytes on.
"""

import argparse
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from aiohttp import ClientSession, web

from bench.topologies import front


class Replicas:
    """Engines, how many times slower than the quickest each is, and how many requests each has under way."""

    def __init__(self, slowness: Mapping[str, float]) -> None:
        self._slowness = slowness
        self._under_way = dict.fromkeys(slowness, 0)  # in the order in which they were last chosen

    @contextmanager
    def least_loaded(self) -> Iterator[str]:
        """The one to ask, for as long as the request lasts; of several, the one that was chosen longest ago."""
        url = min(self._under_way, key=lambda url: (1 + self._under_way[url]) * self._slowness[url])
        self._under_way[url] = self._under_way.pop(url) + 1
        try:
            yield url
        finally:
            self._under_way[url] -= 1


class Router:
    """Answers every request with an engine's answer."""

    def __init__(self, replicas: Replicas) -> None:
        self._replicas = replicas

    async def __call__(self, request: web.Request, body: bytes, session: ClientSession) -> web.StreamResponse:
        """See `front.Handler`."""
        with self._replicas.least_loaded() as engine:
            async with front.asking(request, body, session, engine) as answer:
                return await front.relay(request, answer, engine)


def main() -> None:
    """Serve until the standard input closes."""
    parser = argparse.ArgumentParser(description="Least-loaded routing over engines.")
    parser.add_argument("replicas", nargs="+", metavar="URL", help="base URL of an engine")
    parser.add_argument("--slowness", type=float, action="append", help="of each, to the quickest; 1 unless told")
    asked = parser.parse_args()
    slowness = asked.slowness or [1.0] * len(asked.replicas)
    front.run(Router(Replicas(dict(zip(asked.replicas, slowness, strict=True)))))


if __name__ == "__main__":
    main()
