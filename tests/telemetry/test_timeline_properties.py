"""What holds of every timeline, however little sense its marks and records make."""

import math

import pytest
from arbitrary_timelines import ASSEMBLED, RECORDS, WORKERS, tellings
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from told_requests import Told, shifted

from chiasm.nouns import WorkerId
from chiasm.telemetry.records import EngineRecords, Phase
from chiasm.telemetry.timelines.clock_offsets import ClockOffset
from chiasm.telemetry.timelines.timeline import Timeline

pytestmark = pytest.mark.slow

anything = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])


@anything
@given(ASSEMBLED)
def test_self_times_and_what_is_unattributed_are_the_wall_time(timeline: Timeline) -> None:
    own = math.fsum(span.self_seconds for span in timeline.spans)
    assert own + timeline.unattributed_seconds == timeline.wall_seconds == timeline.ended - timeline.arrived
    assert timeline.unattributed_seconds >= 0
    assert set(timeline.self_seconds) == set(Phase)
    assert math.fsum(timeline.self_seconds.values()) == own


@anything
@given(ASSEMBLED)
def test_a_span_accounts_for_no_more_than_its_own_time(timeline: Timeline) -> None:
    for span in timeline.spans:
        assert timeline.arrived <= span.began < span.ended <= timeline.ended
        assert 0 <= span.self_seconds <= span.seconds


@anything
@given(ASSEMBLED)
def test_time_in_which_anything_is_known_to_have_gone_on_is_put_down_to_it(timeline: Timeline) -> None:
    covered, reached = 0.0, timeline.arrived
    for span in timeline.spans:  # by when they began
        covered += max(0.0, span.ended - max(reached, span.began))
        reached = max(reached, span.ended)
    assert timeline.unattributed_seconds == timeline.wall_seconds - covered


@anything
@given(ASSEMBLED)
def test_an_attempt_is_in_one_phase_at_a_time_but_for_transfers(timeline: Timeline) -> None:
    by_attempt: dict[tuple[object, ...], float] = {}
    for span in timeline.spans:
        if span.phase is not Phase.TRANSFER:
            key = span.phase in (Phase.PREFILL, Phase.DECODE), span.item, span.attempt
            assert by_attempt.get(key, timeline.arrived) <= span.began or span.attempt is None
            by_attempt[key] = span.ended


WHOLE_HOURS = st.integers(-48, 48).map(lambda hours: 3600.0 * hours)


@anything
@given(
    tellings(),
    st.dictionaries(WORKERS, RECORDS),
    st.dictionaries(WORKERS, WHOLE_HOURS),
)
def test_a_clock_that_is_set_apart_and_put_right_changes_nothing(
    told: Told, records: dict[WorkerId, EngineRecords], ahead: dict[WorkerId, float]
) -> None:
    clocks = {worker: ClockOffset(seconds, 0.0) for worker, seconds in ahead.items()}
    theirs = {worker: shifted(of, ahead.get(worker, 0.0)) for worker, of in records.items()}
    apart, together = told.timeline(theirs, clocks), told.timeline(records)
    assert apart.spans == together.spans
    assert apart.missing == together.missing
