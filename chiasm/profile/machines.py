"""What the command line asks a gateway about the cluster's machines, and has measured where nobody has yet."""

from collections.abc import Callable, Mapping

import msgspec

from chiasm.client import EndpointError, get_json, post_json
from chiasm.nouns import WorkerId
from chiasm.telemetry.live.machine import Machine, Machines
from chiasm.telemetry.signature.peaks import Best


def ask_machines(endpoint: str, api_key: str | None) -> Machines:
    """What every engine runs on.

    Raises:
        EndpointError: no answer, or an error.
    """
    return msgspec.convert(get_json(endpoint, "/v1/chiasm/machines", api_key), Machines)


def with_peaks(
    machines: Mapping[WorkerId, Machine], endpoint: str, api_key: str | None, say: Callable[[str], None]
) -> dict[WorkerId, Machine]:
    """The same machines with their peaks, measured now where they were not known; one after the other, so that two on
    one node do not slow each other. Why one is left out, and that others take some seconds, is said.
    """
    found = {}
    for name, machine in machines.items():
        if machine.best is None:
            say(f"measuring what {machine.conditions.processor} does at most, on {name} (once, some 10 s) ...")
            try:
                answer, _ = post_json(endpoint, f"/v1/chiasm/machines/{name}/peaks", {}, api_key)
            except EndpointError as error:
                say(f"{name} is left out: {error}")
                continue
            machine = msgspec.structs.replace(machine, best=msgspec.convert(answer, Best))  # noqa: PLW2901
        found[name] = machine
    return found
