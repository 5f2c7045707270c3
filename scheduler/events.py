"""What goes into the scheduling core and what comes out. Imports only `chiasm.{nouns,messages}`."""

from dataclasses import dataclass

from chiasm.messages import FromGateway, FromWorker, ToGateway, ToWorker
from chiasm.nouns import RequestId, WorkerId


@dataclass(frozen=True, slots=True)
class Refused:
    """An event that the core would not act on, and why: for the host to log. It is sent to nobody."""

    sender: RequestId | WorkerId
    reason: str


Event = FromGateway | FromWorker
Decision = ToGateway | ToWorker | Refused
