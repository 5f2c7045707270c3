"""The Prometheus registry of an engine's API server, which vLLM's `/metrics` shows. Imports nothing of Chiasm."""

from prometheus_client import REGISTRY


def unregister(prefix: str) -> None:
    """Take out the metrics whose names start so, if they are there.

    vLLM makes all metrics anew when it gets more engines (elastic expert parallelism), and takes out only its own.
    """
    for collector in list(REGISTRY._collector_to_names):
        if getattr(collector, "_name", "").startswith(prefix):
            REGISTRY.unregister(collector)
