"""Which requests a gateway can tell the course of, and since when it can of all."""

from chiasm.gateway.views.timelines import Timelines
from chiasm.nouns import RequestId
from chiasm.telemetry.marks import Marks

OLD, *LATER = map(RequestId, "abcd")


def begin(timelines: Timelines, request: RequestId) -> Marks:
    marks = Marks(request, iter([1.0]).__next__)
    timelines.add(marks)
    return marks


def end(timelines: Timelines, marks: Marks, at: float) -> None:
    marks.ended_at = at
    timelines.ended(marks.request)


def remembered(timelines: Timelines) -> list[RequestId]:
    return [marks.request for marks in timelines.all()]


def test_what_is_under_way_is_not_forgotten_for_others_that_end() -> None:
    timelines = Timelines(2)
    old = begin(timelines, OLD)
    for at, request in enumerate(LATER, 10):
        end(timelines, begin(timelines, request), at)
    assert timelines.get(OLD) is old
    assert remembered(timelines) == [*LATER[1:], OLD]
    assert timelines.whole_since == 10.0
    end(timelines, old, 20.0)
    assert remembered(timelines) == [LATER[-1], OLD]
    assert timelines.whole_since == 11.0
    assert timelines.get(LATER[1]) is None


def test_of_more_under_way_than_are_remembered_none_is_missing_unnamed() -> None:
    """Whoever asks what ended since some moment is told all of it, or that some is forgotten."""
    timelines = Timelines(1)
    under_way = [begin(timelines, request) for request in (OLD, *LATER)]
    assert remembered(timelines) == [OLD, *LATER]
    for at, marks in enumerate(under_way, 10):
        end(timelines, marks, at)
        forgotten = [one.ended_at or 0.0 for one in under_way if one not in timelines.all()]
        assert timelines.whole_since == max(forgotten, default=0.0)
        assert len(timelines.all()) == min(len(under_way), 14 - at)


def test_none_are_kept_where_that_is_off() -> None:
    timelines = Timelines(0)
    marks = begin(timelines, OLD)
    assert timelines.all() == []
    end(timelines, marks, 5.0)
    assert (timelines.all(), timelines.whole_since) == ([], 0.0)


def test_one_that_never_came_as_far_as_the_scheduler_is_none() -> None:
    timelines = Timelines(2)
    timelines.ended(OLD)
    assert timelines.all() == []
