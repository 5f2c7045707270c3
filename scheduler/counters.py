"""What the core counts since it started, by name. Imports only `chiasm.messages`."""

from chiasm.messages import RejectReason

COUNTERS = (
    "submitted",
    "done",
    "cancelled",
    *(f"failed_{reason.value}" for reason in RejectReason),
    "encodes",  # handed to an engine
    "encode_shared",  # joined the encode of another request
    "encode_cached",  # found on an encoder
    "encode_retries",  # a failed encode, or one whose encoder was lost, that goes on elsewhere
    "embeddings_lost",  # known to be gone from their encoder
    "decodes",  # handed to an engine
    "decode_retries",
    "images_whole",  # of "decodes", those with images handed to a whole worker
    "stolen",  # handed to a thief
    "paused",  # thieves held because an image came
    "returned",  # stolen, and given back in mid-answer
    "workers_lost",
    "refused",  # events that broke the protocol
    "stale",  # reports about work that the core has given up, or never gave
)


def new_counters() -> dict[str, int]:
    """Every counter at zero."""
    return dict.fromkeys(COUNTERS, 0)


def ended(counters: dict[str, int]) -> int:
    """How many requests have come to their end, whichever it was."""
    return counters["done"] + counters["cancelled"] + sum(counters[f"failed_{reason.value}"] for reason in RejectReason)
