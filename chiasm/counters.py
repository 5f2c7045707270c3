"""What the scheduler counts from its start on, by name, and what each means. The counts travel in `messages.Status`.

Imports only `chiasm.messages`.
"""

from chiasm.messages import RejectReason

FAILED = "failed_"
"""Begins the names of the counters of rejected requests; a `RejectReason` follows."""

COUNTERS = {
    "submitted": "Requests that came",
    "images_submitted": "Of those submitted, requests with images",
    "done": "Requests that were answered",
    "cancelled": "Requests whose client left, or whose gateway gave up",
    **{f"{FAILED}{reason.value}": f"Requests that ended with the error {reason.value}" for reason in RejectReason},
    "encodes": "Items handed to an encoder",
    "encode_shared": "Items that joined the encode of another request",
    "encode_cached": "Items found on an encoder",
    "encode_retries": "Encodes that failed, or whose encoder was lost, and that went on elsewhere",
    "reencodes": "Items encoded again because a request's embedding was lost",
    "embeddings_lost": "Embeddings known to be gone from their encoder",
    "transfers_failed": "Embeddings that a decoder was told to fetch and could not",
    "decodes": "Requests handed to an engine that generates",
    "decode_retries": "Requests that an engine failed at, and that went on elsewhere",
    "images_whole": "Of the decodes, requests with images handed to a whole worker",
    "stolen": "Of the decodes, requests handed to a thief",
    "paused": "Thieves held because an image came",
    "returned": "Stolen requests given back in mid-answer",
    "workers_lost": "Workers that died, fell silent, were started anew, or left with their node",
    "refused": "Events that broke the protocol",
    "stale": "Reports about work that had been given up, or never given",
}
