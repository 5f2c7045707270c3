"""Split or stay: whether a request with images goes to a whole worker, where encoders and decoders live as well.

It goes where it would be done first, and split if that is the same. It also goes split if a whole worker would be
sooner, but the streams there would wait longer for a token than the objective allows. Imports only `chiasm.messages`,
the standard library and its neighbours.
"""

from chiasm.messages import NOBODY
from scheduler.admission import Admission
from scheduler.arrangement_forecasts import Forecast, Forecasts, Queue
from scheduler.reasons import Reasons
from scheduler.requests import LiveRequest
from scheduler.workers import DecodeWorker


class SplitOrStay:
    """Chooses for requests with images while both arrangements live. Books nothing."""

    def __init__(self, admission: Admission, forecasts: Forecasts, reasons: Reasons) -> None:
        self._admission = admission
        self._forecasts = forecasts
        self._reasons = reasons

    def goes_whole(self, request: LiveRequest, withheld_output: int) -> bool:
        """Is this request, which comes or has lost its way, to go whole?

        `withheld_output` are the tokens that all other withheld requests may generate. All of them count as ahead: they
        wait in a fair order, not in that of their arrival.
        """
        forecast = self._forecasts.queued(request, self._queue(request, withheld_output))
        return self._choose(request, forecast, note_whole=True)

    def stays_whole(self, request: LiveRequest, withheld_output: int) -> bool:
        """Is the first of those that wait for a whole worker, and cannot have one now, to go on waiting for it?"""
        queue = self._queue(request, withheld_output)
        forecast = self._forecasts.queued(request, Queue(queue.text, queue.split, 0, 0))
        return self._choose(request, forecast, note_whole=False)

    def note_taken(self, request: LiveRequest, worker: DecodeWorker) -> None:
        """A whole worker takes this request, for which no decoder had room."""
        numbers = self._forecasts.encoded(request, worker).numbers
        self._reasons.note(request.id, "goes whole", worker.id, "", numbers)

    def _queue(self, request: LiveRequest, withheld_output: int) -> Queue:
        admission = self._admission
        whole, prompts = admission.whole_output, admission.whole_prompts
        if request.whole and request in admission:
            whole, prompts = whole - request.output_tokens, prompts - request.prompt_tokens
        return Queue(admission.text_output, withheld_output - admission.text_output - whole, whole, prompts)

    def _choose(self, request: LiveRequest, forecast: Forecast, note_whole: bool) -> bool:
        if self._admission.all_wholes_failed_at(request):
            self._reasons.note(request.id, "wholes failed")
            return False
        if not forecast.whole_is_sooner:
            self._reasons.note(request.id, "goes split", NOBODY, "", forecast.numbers)
            return False
        limit_s = self._forecasts.itl_slo_s
        if forecast.stall_s > limit_s and not self._admission.a_whole_could_take(request):
            self._reasons.note(request.id, "spares streams", NOBODY, "", (*forecast.numbers, limit_s))
            return False
        if note_whole:
            self._reasons.note(request.id, "goes whole", NOBODY, "", forecast.numbers)
        return True
