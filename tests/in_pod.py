"""A command of `chiasm` as it runs in a pod, with workers whose engines only look like one:

    python tests/in_pod.py NODE serve --config cluster.yaml --address auto

NODE is the name of the Ray node that is the pod's own. In a pod it is the only one there is; where all nodes are on one
machine, Ray has to be told.
"""

import sys
from typing import Any

import standin_workers
from ray._private import services

import chiasm.cli
import chiasm.cluster
from chiasm.preflight import ModelFacts

FACTS = ModelFacts("m", "m", "A", "r", 784, (1, 4096), None, 4096, ("image_grid_thw",))


def main(node: str, *arguments: str) -> None:
    find = services.get_node_to_connect_for_driver

    def find_its_own(gcs: Any, **given: Any) -> Any:
        return find(gcs, **given | {"node_name": node})

    services.get_node_to_connect_for_driver = find_its_own
    chiasm.cluster.EncoderWorker = standin_workers.StandInEncoder  # type: ignore[misc]
    chiasm.cluster.DecoderWorker = standin_workers.StandInDecoder  # type: ignore[misc]
    chiasm.cli.check_model = lambda *_: FACTS
    chiasm.cli.main(arguments)


if __name__ == "__main__":
    main(*sys.argv[1:])
