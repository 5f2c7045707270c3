"""What a cluster did in twenty seconds, as `chiasm profile` gathers it."""

import io

from msgspec.structs import replace
from told_requests import (
    DECODER,
    ENCODER,
    THIEF,
    T,
    Told,
    call,
    image_records,
    image_request,
    pause,
    remembered,
)

from chiasm.nouns import RequestId, Role, WorkerId
from chiasm.telemetry.perfetto.trace import Profile, Sample, write_trace
from chiasm.telemetry.records import EngineRecords, Step
from chiasm.telemetry.timelines.clock_offsets import ClockOffset
from chiasm.telemetry.timelines.collected import ClusterRecords, WorkerRecords
from chiasm.telemetry.timelines.timeline import Timeline

STOLEN = RequestId("stolen")
BEGAN, ENDED = T - 5.0, T + 15.0


def worker(name: WorkerId, role: Role, records: EngineRecords, ahead: float = 0.0) -> WorkerRecords:
    return WorkerRecords(name, role, "node-a", records, ClockOffset(ahead, 0.001))


def unheard(name: str, role: Role) -> WorkerRecords:
    return WorkerRecords(WorkerId(name), role, "node-a", failure="no connection")


def step(ended: float, seconds: float, **counts: int | float) -> Step:
    return Step(T + ended, seconds, **dict.fromkeys(Step.__struct_fields__[2:], 0) | counts)


def sample(at: float, encoding: int, withheld: int, decoding: int, **waiting: int) -> Sample:
    workers = [{"worker": name.replace("_", "-"), "waiting": count} for name, count in waiting.items()]
    return Sample(T + at, {"encoding": encoding, "withheld": withheld, "decoding": decoding, "workers": workers})


def profile(*workers: WorkerRecords, timelines: tuple[Timeline, ...] = (), samples: tuple[Sample, ...] = ()) -> Profile:
    return Profile(BEGAN, ENDED, ClusterRecords(ENDED, workers, timelines, 0.0), samples)


def busy_profile() -> Profile:
    """A request about an image, one that was stolen and given back, and steps; a decoder's clock is ahead."""
    ahead = 3.0
    image = image_records(decoder_ahead=ahead)
    thief = remembered(call("r", 0.3, 0.3, 0.4, 0.8, 2.0), pause(1.5, 1.9))
    timelines = (
        image_request().timeline(image, {DECODER: ClockOffset(ahead, 0.001)}),
        replace(stolen_request().timeline({THIEF: thief}), request=STOLEN),
    )
    steps = (step(1.0, 0.5, images=1, image_tokens=64, running=1),)
    prefilled = (step(2.6 + ahead, 0.8, prompt_requests=1, prompt_tokens=84, running=1, kv_part=0.25),)
    decoded = tuple(step(3.0 + n / 10 + ahead, 0.1, streams=1, stream_tokens=1, running=1) for n in range(15))
    return profile(
        worker(DECODER, Role.DECODER, with_steps(image[DECODER], *prefilled, *decoded), ahead),
        worker(THIEF, Role.TEXT, thief),
        worker(ENCODER, Role.ENCODER, with_steps(image[ENCODER], *steps)),
        unheard("encoder-10", Role.ENCODER),
        unheard("whole-0", Role.WHOLE),
        timelines=timelines,
        samples=(sample(0.0, 1, 2, 0, decoder_0=2), sample(0.2, 0, 0, 3, decoder_0=0)),
    )


def stolen_request() -> Told:
    """A stream of text that a thief began and a decoder went on with."""
    told = Told()
    told.at(0.1).submitted([], streams=True)
    told.at(0.3).decode_posted(THIEF, Role.TEXT, [])
    told.at(0.8).first_token()
    told.at(2.0).decode_returned(tokens=10)
    told.at(2.2).decode_posted(DECODER, Role.DECODER, [])
    told.at(2.5).first_token()
    told.at(4.0).last_token()
    told.at(4.0).decode_answered(tokens=10)
    told.at(4.1).ended("answered")
    return told


def with_steps(records: EngineRecords, *steps: Step) -> EngineRecords:
    return EngineRecords(records.now, records.calls, records.transfers, steps, records.pauses)


def written(profile: Profile) -> str:
    file = io.StringIO()
    write_trace(file, profile)
    return file.getvalue()
