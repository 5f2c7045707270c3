"""A router over equal engines, in a process of its own: each request goes to the one with the fewest under way.

`python -m bench.topologies.router URL URL...` prints where it serves. It is ours, and as little as can be: it looks at
no body, and passes the bytes on.
"""

import argparse
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from aiohttp import ClientSession, web

from bench.topologies import front


class Replicas:
    """Equal engines, and how many requests each has under way."""

    def __init__(self, urls: Sequence[str]) -> None:
        self._under_way = dict.fromkeys(urls, 0)  # in the order in which they were last chosen

    @contextmanager
    def least_loaded(self) -> Iterator[str]:
        """The one to ask, for as long as the request lasts; of several, the one that was chosen longest ago."""
        url = min(self._under_way, key=self._under_way.__getitem__)
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
    parser = argparse.ArgumentParser(description="Least-loaded routing over equal engines.")
    parser.add_argument("replicas", nargs="+", metavar="URL", help="base URL of an engine")
    front.run(Router(Replicas(parser.parse_args().replicas)))


if __name__ == "__main__":
    main()
