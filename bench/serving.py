"""An endpoint for benchmarks that were not told of a running one."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console

from chiasm.config import ClusterConfig, GatewayConfig
from chiasm.cores import beside_decoders
from chiasm.display import StartDisplay
from chiasm.ray_token import use_own_token


@contextmanager
def serving_builtin_model(console: Console) -> Iterator[str]:
    """The base URL of a cluster with the built-in model, as `chiasm serve` starts it, for as long as the context lasts.

    The program ends if the cluster does not come up.
    """
    use_own_token()
    from chiasm.cli import prepare  # the command line in its turn imports the benchmarks
    from chiasm.cluster import Cluster, ClusterFailed, ray_session

    config, facts = prepare(ClusterConfig(gateway=GatewayConfig(port=0)))
    console.print("starting Ray on this machine ...")
    try:
        with ray_session(None, verbose=False, cores=beside_decoders(config)):
            cluster = Cluster(config, facts, one_machine=True)
            try:
                cluster.start()
                with StartDisplay(console) as display:
                    cluster.wait_ready(display.show)
                yield cluster.url
            finally:
                cluster.stop()
    except ClusterFailed as error:
        sys.exit(f"the cluster did not come up: {error}")
