"""One run: cluster after cluster, each asked block by block, and what was found."""

import secrets
from collections.abc import Callable
from typing import Any

from rich.progress import Progress

from bench.overhead.clusters import bench_model, built_in, running
from bench.overhead.figures import Row, row_of_bursts, row_of_pairs
from bench.overhead.measuring import bursts, pairs, warm_up
from bench.overhead.plan import SINGLES, Plan, Traffic
from bench.overhead.ways import Ways

CLUSTERS: tuple[tuple[str, Callable[[], dict[str, Any]], tuple[Traffic, ...]], ...] = (
    ("the built-in model", built_in, (Traffic.TEXT, Traffic.IMAGES, Traffic.SMALL_BURST)),
    ("the bench model", bench_model, (Traffic.BURST,)),
)
"""Each is alone while it is asked: another's Ray would take its share of the cores."""


class Run:
    """`series` has a row for each block of each kind of traffic; no other run asks for what has this one's `nonce`."""

    def __init__(self, plan: Plan, progress: Progress) -> None:
        self.series: list[Row] = []
        self.nonce = secrets.token_hex(8)
        self._plan = plan
        self._progress = progress
        self._task = progress.add_task("", total=0)

    def on_clusters_of_its_own(self) -> None:
        """Start what is to be asked, and ask it.

        Raises:
            NotServing: a cluster did not come up.
            Unanswered: a request failed.
        """
        self._expect(sum(1 + len(kinds) * self._plan.blocks for _, _, kinds in CLUSTERS))
        for name, config, kinds in CLUSTERS:
            self._say(f"starting {name}")
            with running(name, config()) as ways:
                self._progress.advance(self._task)
                for traffic in kinds:
                    self._measure(ways, traffic)

    def on(self, ways: Ways) -> None:
        """Ask a cluster that runs already.

        Raises:
            Unanswered: a request failed.
        """
        kinds = (Traffic.TEXT, *([Traffic.IMAGES] if ways.images else []), Traffic.BURST)
        self._expect(len(kinds) * self._plan.blocks)
        for traffic in kinds:
            self._measure(ways, traffic)

    def _measure(self, ways: Ways, traffic: Traffic) -> None:
        self._say(f"{traffic}: warming up")
        warm_up(ways, traffic, self._burst_size(ways), self.nonce)
        for block in range(1, self._plan.blocks + 1):
            self._say(f"{traffic}: block {block}")
            self.series.append({"traffic": str(traffic), "block": block, **self._block(ways, traffic, block)})
            self._progress.advance(self._task)

    def _block(self, ways: Ways, traffic: Traffic, block: int) -> Row:
        if traffic in SINGLES:
            return row_of_pairs(pairs(ways, traffic, self._plan.pairs, block, self.nonce))
        return row_of_bursts(*bursts(ways, self._burst_size(ways), self._plan.lengths, block, self.nonce))

    def _burst_size(self, ways: Ways) -> int:
        return self._plan.per_slot * ways.slots

    def _expect(self, steps: int) -> None:
        self._progress.update(self._task, total=steps)

    def _say(self, what: str) -> None:
        self._progress.update(self._task, description=what)
