"""What sweeps would see of an engine whose steps cost exactly what a test says: times are computed, nobody waits."""

from collections.abc import Sequence

from bench.diagnosis.plan import Rung
from bench.diagnosis.sweeping import BURST, PICTURE, TEXT, Carried, Measured

LADDER = (Rung((224, 224), 1, 64), Rung((448, 448), 1, 256), Rung((896, 896), 1, 1024))
GAP_S = 0.01


class VirtualEngine:
    """Costs are seconds a token. `front_s` passes before a request with a picture reaches the engine."""

    def __init__(self, front_s: float = 0.0) -> None:
        self.measured = Measured(runs=[[0.0], [0.0]])
        self._front_s = front_s
        self._now = 0.0

    def sweep(self, number: int, encode: float, prefill: float) -> None:
        for rung, carries in enumerate(LADDER):
            self._carry(PICTURE, number, rung, carries.tokens, (encode + prefill) * carries.tokens, self._front_s)
            self._carry(TEXT, number, rung, carries.tokens, prefill * carries.tokens, 0.0)

    def burst(self, number: int, size: int, cost_s: float) -> None:
        self._carry(BURST, number, size, 256, cost_s, 0.0)

    def _carry(self, kind: str, sweep: int, rung: int, tokens: int, cost_s: float, front_s: float) -> None:
        self._quiet(12)
        sent = self._now + GAP_S / 2
        while self._now < sent + front_s:
            self._step(GAP_S)
        begun = self._now
        self._step(GAP_S + cost_s)
        self.measured.carried.append(
            Carried(
                kind,
                sweep,
                rung,
                tokens,
                window=(sent, self._now),
                ttft_ms=1000 * (self._now - sent),
                prefill_ms=1000 * (self._now - begun),
                queued_ms=0.0,
            )
        )
        self.measured.busy.append((sent, self._now))
        self._quiet(12)

    def _quiet(self, steps: int) -> None:
        for _ in range(steps):
            self._step(GAP_S)

    def _step(self, seconds: float) -> None:
        self._now += seconds
        for run in self.measured.runs:
            assert isinstance(run, list)
            run.append(self._now)


def swept(costs: Sequence[tuple[float, float]], front_s: float = 0.0) -> Measured:
    """A sweep for each (encode, prefill), in seconds a token."""
    engine = VirtualEngine(front_s)
    for number, (encode, prefill) in enumerate(costs):
        engine.sweep(number, encode, prefill)
    return engine.measured
