"""Where the time of a request with a picture goes, from lines through times to first token and through stalls. Pure.

With N the picture's tokens and lines fitted in each sweep by itself:

    prefill      N times the slope of text's time to first token
    encode       how far the stalls' lines of pictures and of texts lie apart at N
    preparation  how far the lines of the times to first token lie apart at N, less the encode: the picture's way from
                 bytes to pixels, before the engine; it keeps no stream waiting
    the rest     time to first token of a text of no tokens: HTTP, template, question, the step that is under way
    decode       tokens of the answer times the usual gap of a stream
"""

from collections.abc import Callable
from dataclasses import dataclass
from statistics import linear_regression

from bench.diagnosis.findings import Findings, Point, Sweep
from bench.diagnosis.sweeping import PICTURE, TEXT
from bench.load.slopes import Interval, mean_interval


@dataclass(frozen=True)
class Phases:
    """In ms. Means over the sweeps; `decode` has no interval, for it is one mean over all quiet gaps."""

    encode: Interval
    preparation: Interval
    prefill: Interval
    rest: Interval
    decode: float
    answer_tokens: int

    @property
    def total_ms(self) -> float:
        """Until the last token."""
        return sum(each.value for each in (self.encode, self.preparation, self.prefill, self.rest)) + self.decode


def phases(findings: Findings, answer_tokens: int) -> Phases:
    """Of a request with the judged picture and an answer of so many tokens."""
    tokens = findings.judged.rung.tokens
    encode, preparation, prefill, rest = [], [], [], []
    for sweep in findings.sweeps:
        picture, text = _line(sweep, PICTURE, _ttft), _line(sweep, TEXT, _ttft)
        stalls = [_line(sweep, kind, _behind) for kind in (PICTURE, TEXT)]
        encode.append(stalls[0].at(tokens) - stalls[1].at(tokens))
        preparation.append(picture.at(tokens) - text.at(tokens) - encode[-1])
        prefill.append(text.slope * tokens)
        rest.append(text.intercept)
    return Phases(
        encode=mean_interval(encode),
        preparation=mean_interval(preparation),
        prefill=mean_interval(prefill),
        rest=mean_interval(rest),
        decode=findings.gap_ms * answer_tokens,
        answer_tokens=answer_tokens,
    )


@dataclass(frozen=True)
class _Line:
    slope: float
    intercept: float

    def at(self, tokens: float) -> float:
        return self.intercept + self.slope * tokens


def _line(sweep: Sweep, kind: str, value: Callable[[Point], float]) -> _Line:
    found = [point for (its, _), point in sweep.items() if its == kind]
    fitted = linear_regression([point.carried.tokens for point in found], [value(point) for point in found])
    return _Line(fitted.slope, fitted.intercept)


def _ttft(point: Point) -> float:
    return point.carried.ttft_ms


def _behind(point: Point) -> float:
    return point.stall.behind_ms
