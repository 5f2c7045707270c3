"""What sweeps would see of engines whose steps cost exactly what a test says: times are computed, nobody waits.

As vLLM does it, a step gives each stream a token, prefills up to a chunk of the prompts' tokens, and encodes a prompt's
pictures whole in the step that has its first chunk.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from bench.diagnosis.findings import Findings, find
from bench.diagnosis.plan import STREAMS, Rung
from bench.diagnosis.probing import Known
from bench.diagnosis.sweeping import (
    IN_PLACE_OF,
    NOTHING,
    PICTURE,
    PICTURES_AT_ONCE,
    TEXT,
    TEXTS_AT_ONCE,
    Carried,
    Measured,
)

LADDER = (Rung((224, 224), 1, 64), Rung((448, 448), 1, 256), Rung((896, 896), 1, 1024))
GAP_S = 0.01
QUIET_STEPS = 24
BURSTS = (1, 2, 4)


@dataclass
class Prompt:
    """Costs are seconds."""

    arrives_s: float
    tokens: int
    encode_s: float
    token_s: float
    left: int = field(init=False)
    first_s: float | None = None  # when its first token came

    def __post_init__(self) -> None:
        self.left = self.tokens


@dataclass
class Engine:
    """One engine and the streams on it. It has its own time."""

    streams: list[list[float]]
    chunk: int | None
    piece: int  # steps, of which a stream hears at once
    flush: int  # pieces, which a proxy lets go at once
    others_every_s: float | None  # somebody else's picture comes
    others_s: float  # and is encoded for so long
    now_s: float = 0.0
    steps: int = 0
    prompts: list[Prompt] = field(default_factory=list)
    held: int = 0
    others_next_s: float = 0.0

    def step(self) -> None:
        if self.others_every_s is not None and self.now_s >= self.others_next_s:
            self.prompts.append(Prompt(self.now_s, 16, self.others_s, 0.0))
            self.others_next_s = self.now_s + self.others_every_s
        room = self.chunk or 1_000_000
        took_s = GAP_S
        ready = [each for each in self.prompts if each.arrives_s <= self.now_s]
        for prompt in ready:
            part = min(room, prompt.left)
            if part:
                took_s += part * prompt.token_s + (prompt.encode_s if prompt.left == prompt.tokens else 0.0)
            prompt.left -= part
            room -= part
        self.now_s += took_s
        for prompt in ready:
            if not prompt.left:
                prompt.first_s = self.now_s
                self.prompts.remove(prompt)
        self.steps += 1
        if self.steps % self.piece == 0:
            self.held += 1
        if self.held == self.flush:
            for stream in self.streams:
                stream.extend([self.now_s] * self.held)
            self.held = 0


class VirtualServer:
    """Four streams, spread over its engines, as are the requests. `front_s` passes before a picture reaches one."""

    def __init__(
        self,
        *,
        chunk: int | None = None,
        front_s: float = 0.0,
        engines: int = 1,
        piece: int = 1,
        flush: int = 1,
        others_every_s: float | None = None,
        others_s: float = 0.0,
    ) -> None:
        streams: list[list[float]] = [[] for _ in range(STREAMS)]
        self.measured = Measured(runs=list(streams))
        self._engines = [
            Engine(streams[number::engines], chunk, piece, flush, others_every_s, others_s) for number in range(engines)
        ]
        self._piece = piece
        self._front_s = front_s
        self._asked = 0
        self._lengths: dict[tuple[str, int], float] = {}

    @property
    def known(self) -> Known:
        return Known(5, 1.0, GAP_S * self._piece, float(self._piece), LADDER, (0.1,) * len(LADDER), LADDER[-1], ())

    def found(self) -> Findings:
        self.measured.tokens = self._piece * sum(map(len, self.measured.runs))
        return find(self.measured, self.known, BURSTS)

    def sweep(self, number: int, encode: float, prefill: float) -> None:
        """Costs are seconds a token."""
        for rung, carries in enumerate(LADDER):
            self._carry(PICTURE, number, rung, carries.tokens, [(encode, prefill)])
            self._carry(TEXT, number, rung, carries.tokens, [(0.0, prefill)])
        self._carry(NOTHING, number, len(LADDER) - 1, 0, [])

    def round(self, number: int, encode: float, prefill: float) -> None:
        for size in BURSTS:
            self._carry(PICTURES_AT_ONCE, number, size, LADDER[1].tokens, [(encode, prefill)] * size)
            self._carry(TEXTS_AT_ONCE, number, size, LADDER[1].tokens, [(0.0, prefill)] * size)

    def _carry(self, kind: str, sweep: int, rung: int, tokens: int, costs: Sequence[tuple[float, float]]) -> None:
        self._until(max(each.now_s for each in self._engines) + QUIET_STEPS * GAP_S * self._piece)
        sent_s = max(each.now_s for each in self._engines) + GAP_S / 2
        prompts = []
        for encode, prefill in costs:
            front_s = self._front_s if encode else 0.0
            prompts.append(Prompt(sent_s + front_s, tokens, encode * tokens, prefill))
            self._engines[self._asked % len(self._engines)].prompts.append(prompts[-1])
            self._asked += 1
        while any(each.first_s is None for each in prompts):
            self._until(min(each.now_s for each in self._engines) + GAP_S / 10)
        first_s = max((each.first_s or 0.0 for each in prompts), default=sent_s)
        if kind not in IN_PLACE_OF:
            self._lengths[kind, rung] = first_s - sent_s
        end_s = max(first_s, sent_s + self._lengths[IN_PLACE_OF.get(kind, kind), rung])
        ttft_s = sum((each.first_s or 0.0) - sent_s for each in prompts) / max(1, len(prompts))
        self._until(end_s + QUIET_STEPS * GAP_S * self._piece)
        self.measured.carried.append(Carried(kind, sweep, rung, tokens, (sent_s, end_s), 1000 * ttft_s))
        if prompts:
            self.measured.busy.append((sent_s, first_s))

    def _until(self, until_s: float) -> None:
        for engine in self._engines:
            while engine.now_s < until_s:
                engine.step()


def swept(
    costs: Sequence[tuple[float, float]], rounds: Sequence[tuple[float, float]] = (), **more: float
) -> VirtualServer:
    """A sweep for each (encode, prefill), and a round, in seconds a token."""
    server = VirtualServer(**more)  # type: ignore[arg-type]
    for number, (encode, prefill) in enumerate(costs):
        server.sweep(number, encode, prefill)
    for number, (encode, prefill) in enumerate(rounds):
        server.round(number, encode, prefill)
    return server


def around(encode: float, prefill: float, spread: float = 0.02) -> list[tuple[float, float]]:
    """Of three sweeps, in which costs differ by so much; given in ms for 1,000 tokens."""
    return [(encode * more / 1e6, prefill * more / 1e6) for more in (1 - spread, 1.0, 1 + spread)]
