"""A cluster on three hosts, started by the commands of docs/bare_metal.md."""

import re
import shlex
import signal
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil
from hosts import Host, host
from network import NET, Network
from serving import STOP_TIMEOUT_S, Serving

DOCUMENT = Path(__file__).parents[2] / "docs" / "bare_metal.md"
DOCUMENTED_NET = "10.0.0"
CONFIG = """
gateway: {{host: {head}, port: 8000, allow_processor_options: true}}
scheduler: {{prefill_chunk: 1024}}  # an engine holds no image of more tokens than it takes in a step
wire: {{port: 7600, max_item_bytes: {item}, landing_bytes: {landing}}}
encoders: {{labels: {{chiasm-pool: encoder}}, cpus: ["{first}"]}}
decoders: {{labels: {{chiasm-pool: decoder}}, cpus: ["{last}"]}}
"""
PATIENCE_S = 120.0


@dataclass(frozen=True)
class Metal:
    """Hosts by name, and the `chiasm serve` that runs on the first."""

    network: Network
    hosts: dict[str, Host]
    serving: Serving


def documented_commands() -> list[list[str]]:
    """`ray start` as the document has it for each host, at this network's addresses: head, encoder, decoder."""
    text = DOCUMENT.read_text().replace("\\\n", " ").replace(DOCUMENTED_NET, NET)
    commands = [shlex.split(line, comments=True) for line in re.findall(r"^ray start .*$", text, re.MULTILINE)]
    [ports] = re.findall(r'^PORTS="(.*)"', text, re.MULTILINE)
    return [
        [word for given in command for word in (ports.split() if given == "$PORTS" else [given])]
        for command in commands
    ]


@contextmanager
def running_metal(network: Network, config: str, folder: Path) -> Iterator[Metal]:
    """The hosts of the network with Ray on them, and a cluster."""
    (folder / "cluster.yaml").write_text(config)
    with ExitStack() as stack:
        hosts = {
            name: stack.enter_context(host(network, name, command, folder / f"{name}.log"))
            for name, command in zip(network.addresses, documented_commands(), strict=True)
        }
        _wait_for_ray(hosts["head"])
        process = hosts["head"].start("chiasm", "serve", "--config", str(folder / "cluster.yaml"), "--address", "auto")
        serving = Serving(process)
        try:
            serving.wait_ready()
            yield Metal(network, hosts, serving)
        finally:
            for served in psutil.Process(process.pid).children():  # of nsenter, which ends as it ends
                served.send_signal(signal.SIGINT)
            try:
                assert process.wait(STOP_TIMEOUT_S) == 0, "".join(serving.lines)
            finally:
                process.kill()
                process.wait()
                assert process.stdout is not None
                process.stdout.close()


def _wait_for_ray(head: Host) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not head.path("/tmp/ray/ray_current_cluster").exists():
        assert time.monotonic() < deadline, "Ray does not start on the head"
        time.sleep(0.1)
