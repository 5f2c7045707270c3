"""What every actor is given when it is placed: the configuration, the model's facts, the secrets, and where to meet."""

from dataclasses import dataclass

from chiasm import __version__
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
    version: str = __version__  # of Chiasm, where `chiasm serve` runs

    def require_same_version(self) -> None:
        """To be called before anything of this is used: in another version it may look otherwise.

        Raises:
            RuntimeError: nothing of this cluster may run in this process: all of it is of one version of Chiasm.
        """
        if self.version != __version__:
            # Not a class of our own, which the version that reads it may not have.
            raise RuntimeError(
                f"Chiasm {__version__} is installed here, and the cluster is one of Chiasm {self.version}. Install "
                "that, or start a cluster of the new version beside it (docs/upgrades.md)."
            )

    def connect(self) -> ChannelClient:
        """A channel to the scheduler; call it in the event loop that will use it."""
        return ChannelClient(self.scheduler, self.keys, self.config.security)

    def engine_host(self, node_ip: str) -> str:
        """Where an engine listens: loopback, or its own pod's address."""
        return "127.0.0.1" if self.one_machine else node_ip
