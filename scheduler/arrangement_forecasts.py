"""When a request with images would be done: split, by encoders and a decoder, or whole, by one worker with both halves.

Owns the arithmetic, and decides nothing (`scheduler.split_or_stay` does). Imports only the standard library and its
neighbours.
"""

from dataclasses import dataclass

from scheduler.crew import Crew
from scheduler.directory import Directory
from scheduler.encodes import Encodes
from scheduler.requests import LiveRequest
from scheduler.table import WorkerTable
from scheduler.workers import DecodeWorker


@dataclass(frozen=True, slots=True)
class Queue:
    """Tokens that those ahead of a request may still generate, by where they are to go: text goes either way.

    `prompts`: tokens of the prompts of those that wait for a whole worker.
    """

    text: int
    split: int
    whole: int
    prompts: int


@dataclass(frozen=True, slots=True)
class Forecast:
    """Seconds until a request would be done split (of them `encode_s` until its images are encoded), or whole.

    `stall_s`: for how long the streams of a whole worker could get no token.
    """

    split_s: float
    encode_s: float
    whole_s: float
    stall_s: float

    @property
    def whole_is_sooner(self) -> bool:
        """Split, if it is the same."""
        return self.whole_s < self.split_s

    @property
    def numbers(self) -> tuple[float, float, float, float]:
        """As `reasons.NUMBERS` names them."""
        return self.split_s, self.encode_s, self.whole_s, self.stall_s


class Forecasts:
    """By measured rates. To be asked only while an encoder, a decoder and a whole worker are registered.

    A request is done when what is ahead of it is, its prompt is computed, and it has generated all that it may.
    Decoders go on with what is ahead while its images are encoded. A whole worker encodes as a part of the prompt, and
    its streams may get no token meanwhile. How much of the time to the first token that is nobody says, so all counts.

    Prompts with images count as ahead until their first token has been reported. Of an answer that is no stream nobody
    sees it, so its prompt counts until the end.

    Until the first token of a streamed request with images has been reported, a decoder is taken to compute prompts as
    fast as an encoder encodes, and a whole worker to take as long as the two in turn.

    Args:
        itl_slo_s: for how long the streams of a whole worker may get no token.
    """

    def __init__(self, workers: WorkerTable, directory: Directory, encodes: Encodes, itl_slo_s: float) -> None:
        self.itl_slo_s = itl_slo_s
        self._crews = workers.decode_crews
        self._directory = directory
        self._encodes = encodes

    def queued(self, request: LiveRequest, queue: Queue) -> Forecast:
        """For a request behind this queue."""
        decoders, wholes = self._crews.decoders, self._crews.wholes
        text_s = queue.text / self._crews.tokens_per_s
        encode_s = self._encode_s(request)
        decoders_s = text_s + _wait_s(decoders, self._decoder_rate, queue.split)
        wholes_s = text_s + _wait_s(wholes, self._whole_rate, queue.whole, queue.prompts)
        return Forecast(
            max(encode_s, decoders_s) + _own_s(request, decoders, self._decoder_rate),
            encode_s,
            wholes_s + _own_s(request, wholes, self._whole_rate),
            request.prompt_tokens / self._whole_rate,
        )

    def encoded(self, request: LiveRequest, worker: DecodeWorker) -> Forecast:
        """For a request whose images are encoded, the next to go to a decoder, or else now to this whole worker."""
        decoders = self._crews.decoders
        split_s = _wait_s(decoders, self._decoder_rate) + _own_s(request, decoders, self._decoder_rate)
        prompt_s = self._prompt_s(request, worker)
        generating_s = (worker.owed + request.output_tokens) / worker.rate.tokens_per_s
        return Forecast(split_s, 0.0, prompt_s + generating_s, prompt_s)

    def keeps_objective(self, worker: DecodeWorker, request: LiveRequest) -> bool:
        """Does a whole worker that takes this request now have no streams, or keep them within the objective?"""
        return not worker.running or self._prompt_s(request, worker) <= self.itl_slo_s

    def _prompt_s(self, request: LiveRequest, worker: DecodeWorker) -> float:
        return (worker.prompts + request.prompt_tokens) / self._whole_rate

    def _encode_s(self, request: LiveRequest) -> float:
        """Until all its images are encoded; those that an encoder holds, or has in its queue already, count as such."""
        seconds, fresh = 0.0, []
        for uuid, part in request.parts.items():
            if uuid in self._encodes:
                seconds = max(seconds, self._encodes.finish_s(uuid))
            elif uuid not in self._directory:
                fresh.append(max(part.item.tokens, 1))
        return max(seconds, self._encodes.soonest_s(fresh)) if fresh else seconds

    @property
    def _decoder_rate(self) -> float:
        """Tokens of prompts a second, of one decoder."""
        measured = self._crews.decoders.prompt_rate
        return measured.tokens_per_s if measured is not None else self._encodes.mean_tokens_per_s

    @property
    def _whole_rate(self) -> float:
        """Tokens of prompts a second, of one whole worker."""
        measured = self._crews.wholes.prompt_rate
        if measured is not None:
            return measured.tokens_per_s
        return 1 / (1 / self._encodes.mean_tokens_per_s + 1 / self._decoder_rate)


def _wait_s(crew: Crew, prompt_rate: float, queued: int = 0, prompts: int = 0) -> float:
    """Until a crew has worked off what it holds, and what is queued for it."""
    return (crew.owed + queued) / crew.tokens_per_s + (crew.prompts + prompts) / (prompt_rate * crew.workers)


def _own_s(request: LiveRequest, crew: Crew, prompt_rate: float) -> float:
    """What a request takes by itself at one worker of a crew."""
    return request.prompt_tokens / prompt_rate + request.output_tokens * crew.workers / crew.tokens_per_s
