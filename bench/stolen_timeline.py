"""A request that was stolen, paused for an image and given back, on a real cluster: its timeline, for a picture."""

import asyncio
import random

import msgspec
from aiohttp import ClientSession

from bench.stealing_sides import IMAGE_KEY, TEXT_KEY, Cluster
from bench.stealing_traffic import image_question, question
from bench.streams import Stream, Target, read, session
from chiasm.telemetry.timelines.timeline import Timeline

SEED = 1
TEXTS = 24  # more than a decoder takes at once, so that encoders find something to steal
BEFORE_S = 4.0  # until images come: the thief has stolen by then, and generates
IMAGES = 8  # at once, which is more than the objective leaves time for: what fits elsewhere is given back
ROUNDS = 8
WANTED = ("stolen", "paused", "given back", "continued")


class NoneReturned(RuntimeError):
    """No request was stolen, paused and given back."""


def stolen_and_returned(cluster: Cluster) -> Timeline:
    """The timeline of such a request, the shortest of those that the first successful round brings.

    Raises:
        NoneReturned: there was none in `ROUNDS` rounds.
        ExceptionGroup: of `bench.streams.Unanswered`.
    """
    for number in range(ROUNDS):
        found = asyncio.run(_round(cluster, random.Random(f"{SEED}, {number}")))
        if found:
            return min(found, key=lambda timeline: timeline.wall_seconds)
    raise NoneReturned(f"no request was stolen, paused and given back in {ROUNDS} rounds")


async def _round(cluster: Cluster, dice: random.Random) -> list[Timeline]:
    texts, images = cluster.target(TEXT_KEY), cluster.target(IMAGE_KEY)
    streams = [Stream(0.0) for _ in range(TEXTS)]
    async with session() as client:
        async with asyncio.TaskGroup() as group:
            for stream in streams:
                group.create_task(read(client, texts, question(dice), stream))
            await asyncio.sleep(BEFORE_S)
            for _ in range(IMAGES):
                group.create_task(read(client, images, image_question(dice), Stream(0.0)))
        told = [await _timeline(client, texts, stream.request) for stream in streams]
    return [timeline for timeline in told if _shows_all(timeline)]


async def _timeline(client: ClientSession, target: Target, request: str) -> Timeline:
    headers = {"Authorization": f"Bearer {target.key}"}
    url = f"{target.url}/v1/chiasm/requests/{request}"
    async with client.get(url, headers=headers, raise_for_status=True) as answer:
        return msgspec.json.decode(await answer.read(), type=Timeline)


def _shows_all(timeline: Timeline) -> bool:
    notes = " ".join(span.note for span in timeline.spans)
    return not timeline.missing and all(wanted in notes for wanted in WANTED)
