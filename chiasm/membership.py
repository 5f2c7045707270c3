"""What every actor is given when it is placed: the configuration, the model's facts, the secrets, and where to meet."""

from dataclasses import dataclass

from chiasm.config import ClusterConfig
from chiasm.preflight import ModelFacts
from chiasm.wire.channel import ChannelClient
from chiasm.wire.keys import ClusterKeys


@dataclass(frozen=True)
class Membership:
    """Handed from `chiasm serve` to actors by Ray, and never written anywhere else."""

    config: ClusterConfig
    facts: ModelFacts
    token: str  # bearer token of the engines
    keys: ClusterKeys
    scheduler: str  # ZeroMQ endpoint
    one_machine: bool  # everything runs here, so nothing needs to listen on a network

    def connect(self) -> ChannelClient:
        """A channel to the scheduler; call it in the event loop that will use it."""
        return ChannelClient(self.scheduler, self.keys, self.config.security)

    def engine_host(self, node_ip: str) -> str:
        """Where an engine listens: loopback, or its own pod's address."""
        return "127.0.0.1" if self.one_machine else node_ip
