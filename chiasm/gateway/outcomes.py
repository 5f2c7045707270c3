"""Under what a request that has ended is counted: the label `outcome` of `chiasm_requests_total`."""

from chiasm.gateway.errors import (
    CONTEXT_LENGTH_EXCEEDED,
    GATEWAY_FULL,
    INTERNAL_ERROR,
    MEDIA_FETCH_FAILED,
    STOPPING,
)
from chiasm.messages import RejectReason

ANSWERED = "answered"
INVALID = "invalid"
"""The client's own fault, found before the scheduler heard of it."""

REFUSED_BY_ENGINE = "refused_by_engine"
"""The client's own fault, found by an engine: that is its answer."""

CLIENT_LEFT = "client_left"

OUTCOMES = (
    *(ANSWERED, INVALID, REFUSED_BY_ENGINE, CLIENT_LEFT),
    *(MEDIA_FETCH_FAILED, GATEWAY_FULL, CONTEXT_LENGTH_EXCEEDED, INTERNAL_ERROR, STOPPING),
    *RejectReason,
)
"""All of them: they are counted from 0, so that the first of a kind shows as an increase."""
