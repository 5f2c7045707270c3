"""The encoder worker: owns one encode-only engine, and tells the scheduler what its store has let go.

Where idle encoders steal, it owns a text engine on the same card as well: the thief.
"""

import logging
from collections.abc import Callable

import msgspec
import zmq
import zmq.asyncio

from chiasm import messages
from chiasm.capacity import Capacity, of_generator
from chiasm.engine import Engine
from chiasm.landing import Landing
from chiasm.membership import Membership
from chiasm.nouns import Role, WorkerId
from chiasm.wire.channel import ChannelClient
from chiasm.wire.settings import event_endpoint
from chiasm.worker import Charge, Worker

logger = logging.getLogger(__name__)

SLOTS = 1  # an encode fills the card by itself; the scheduler's look-ahead keeps the next one at hand
SEED_TOKENS_PER_S = 1000.0  # vision tokens/s until the first encodes are measured
EVENTS_QUEUED = 1024


class EncoderWorker(Worker):
    """A Ray actor with one encode-only engine, and a text engine where idle encoders steal."""

    def __init__(self, name: str, membership: Membership, land: Callable[[], Landing], cpus: str | None) -> None:
        membership.require_same_version()
        config = membership.config
        pool = config.encoders
        capacity = Capacity(SLOTS, 0, SEED_TOKENS_PER_S, config.wire.store_bytes)
        charges = [Charge(name, Role.ENCODER, pool.engine_args, pool.env, lambda _engine: capacity, _forward_evictions)]
        if config.scheduler.stealing != "off":
            args = config.text_engine_args
            thief = Charge(f"{name}-text", Role.TEXT, args, pool.env, of_generator(args), card_of=WorkerId(name))
            charges.append(thief)
        super().__init__(membership, land, cpus, charges)


async def _forward_evictions(engine: Engine, channel: ChannelClient) -> None:
    """Pass the connector's events on to the scheduler, for as long as the engine lives."""
    context = zmq.asyncio.Context()
    events = context.socket(zmq.PULL)
    events.set(zmq.RCVHWM, EVENTS_QUEUED)
    try:
        events.bind(event_endpoint(engine.runtime))
        while True:
            frame = await events.recv()
            try:
                message = messages.decode(frame)
            except msgspec.DecodeError:
                logger.warning("%s: not an event: %d bytes", engine.spec.name, len(frame))
                continue
            if isinstance(message, messages.Evicted):
                channel.send(message)
    finally:
        context.destroy(linger=0)
