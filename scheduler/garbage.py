"""How a process that hosts the core collects garbage: without looking through all that waits.

The core makes no reference cycles, so what it drops is freed at once. Python's full collections would find nothing, and
stop the scheduler for as long as it takes to look at every waiting request: seconds, where a million wait. To look at
what is new a second time would find nothing either. Imports only the standard library.
"""

import gc
from collections.abc import Iterator
from contextlib import contextmanager

NEVER = 1 << 30

COLLECT_S = 60.0
"""How often a host looks through everything all the same, for what others have left behind ..."""

COLLECT_BELOW = 1000
"""... while no more requests than these live."""


@contextmanager
def sparing_what_waits() -> Iterator[None]:
    """Inside, the collector looks at what is new, once. Meant to be entered when the process has started up."""
    before = gc.get_threshold()
    gc.collect()
    gc.freeze()
    gc.set_threshold(before[0], NEVER, NEVER)
    try:
        yield
    finally:
        gc.set_threshold(*before)
        gc.unfreeze()
