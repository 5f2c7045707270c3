"""What the core counts since it started (`chiasm.counters`). Imports only `chiasm.{counters,messages}`."""

from chiasm.counters import COUNTERS, FAILED
from chiasm.messages import RejectReason


def new_counters() -> dict[str, int]:
    """Every counter at zero."""
    return dict.fromkeys(COUNTERS, 0)


def ended(counters: dict[str, int]) -> int:
    """How many requests have come to their end, whichever it was."""
    failed = sum(counters[f"{FAILED}{reason.value}"] for reason in RejectReason)
    return counters["done"] + counters["cancelled"] + failed
