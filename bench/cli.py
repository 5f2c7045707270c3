"""`chiasm bench NAME`."""

import click

from bench.card_copies import card_copies
from bench.clients import clients
from bench.fan_out import fan_out
from bench.itl.command import itl
from bench.kv_bytes import kv_bytes
from bench.overhead.command import overhead
from bench.phases import phases
from bench.placement import placement
from bench.profile import profile
from bench.pupil import pupil
from bench.scheduler import scheduler
from bench.serve.command import serve
from bench.stealing import stealing
from bench.vllm_epd.command import vllm_epd
from bench.wire import wire


@click.group()
def bench() -> None:
    """Measure. Each benchmark prints its figures, and writes them to a file with --json.

    For a server of your own, begin with `chiasm diagnose URL`. What a split does to latency: itl; to goodput: serve.
    With --quick they show in a few minutes, engines' starts included, what they measure.
    """


bench.add_command(card_copies)
bench.add_command(clients)
bench.add_command(fan_out)
bench.add_command(itl)
bench.add_command(kv_bytes)
bench.add_command(overhead)
bench.add_command(phases)
bench.add_command(placement)
bench.add_command(profile)
bench.add_command(pupil)
bench.add_command(scheduler)
bench.add_command(serve)
bench.add_command(stealing)
bench.add_command(vllm_epd)
bench.add_command(wire)
